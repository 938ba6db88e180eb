import type { ManagerProcess } from '../../crash/support/manager-process.js';
import { type Answer, send, type Sent } from '../../support/http.js';

const PROBE_MS = 100;

/** What a Service in front of managers is: each call goes to the next one whose readiness probe was answered well. */
export class Balancer {
  private readonly ready = new Set<ManagerProcess>();
  private readonly probing: NodeJS.Timeout;
  private turn = 0;

  constructor(private readonly managers: readonly ManagerProcess[]) {
    this.probing = setInterval(() => void this.probe(), PROBE_MS);
  }

  close(): void {
    clearInterval(this.probing);
  }

  isReady(manager: ManagerProcess): boolean {
    return this.ready.has(manager);
  }

  /** A refused connection was nobody's: the next manager is asked, as proxies do. */
  async send(path: string, sent: Sent): Promise<Answer> {
    for (let tries = 1; ; tries += 1) {
      const manager = this.next();
      try {
        return await send(`${manager.url}${path}`, sent);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        const isRefused = code === 'ECONNREFUSED' || code === 'ERR_INVALID_URL';
        if (!isRefused || tries > this.managers.length * 10) {
          throw new Error(`${manager.name}: ${(error as Error).message}`, { cause: error });
        }
        this.ready.delete(manager);
      }
    }
  }

  private next(): ManagerProcess {
    const candidates = this.managers.filter((manager) => this.ready.has(manager));
    const manager = candidates[(this.turn += 1) % candidates.length];
    if (manager === undefined) throw new Error('No manager is ready.');
    return manager;
  }

  private async probe(): Promise<void> {
    await Promise.all(
      this.managers.map(async (manager) => {
        const answer = await send(`${manager.url}/readyz`).catch(() => undefined);
        if (answer?.status === 200) this.ready.add(manager);
        else this.ready.delete(manager);
      }),
    );
  }
}
