import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Workload } from '#libs/orchestrator/workload.js';
import type { PoolSite } from './pool-site.js';

/** Of the workers that it leaves when it is killed; its own half minute would be waited for. */
const LEASE_MS = 5_000;
const PROGRAM = fileURLToPath(new URL('victim.mjs', import.meta.url));

/** A manager as a process of its own, with a full pool, so that kill -9 is what it is in real life. */
export class Victim {
  private constructor(
    private readonly child: ChildProcess,
    private readonly lines: AsyncIterator<string>,
  ) {}

  static async start(site: Pick<PoolSite, 'victim'>, owner: string): Promise<Victim> {
    const pool = { ...site.victim.pool, leaseMs: LEASE_MS };
    const child = spawn(process.execPath, [PROGRAM, JSON.stringify({ ...site.victim, pool, owner })], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const { value } = await lines.next();
    if (value !== 'filled') throw new Error(`The manager said ${String(value)} instead of filling its pool.`);
    return new Victim(child, lines);
  }

  /** Begins a workload, and kills the manager so long afterwards. True when the workload was done by then. */
  async killDuring(workload: Workload, afterMs: number): Promise<boolean> {
    this.child.stdin?.write(`${JSON.stringify({ ...workload, code: workload.code.toString('base64') })}\n`);
    const done = this.lines.next();
    const first = await Promise.race([done.then(() => true), delay(afterMs, false)]);
    await this.kill();
    return first;
  }

  /** It does nothing more, and doesn't know it. */
  pause(): void {
    this.child.kill('SIGSTOP');
  }

  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await exited;
  }
}
