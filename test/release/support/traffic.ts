import { setTimeout as delay } from 'node:timers/promises';
import { vi } from 'vitest';
import type { ManagerProcess } from '../../crash/support/manager-process.js';
import { send } from '../../support/http.js';

const PROBE_MS = 100;
const CALL_MS = 60_000;
/** What a load balancer looks at: managers share all the rest. */
const READY = '/readyz?exclude=database&exclude=engine';

/** Calls of one function on and on. */
export interface Calling {
  /** All results since this was last emptied. */
  readonly seen: Set<string>;
  /** How many calls have been answered. */
  readonly count: number;
}

/** Calls functions all the time, each through the next of the managers that a probe finds ready. */
export class Traffic {
  /** One sentence for each call that was not answered with its result. */
  readonly failures: string[] = [];
  private readonly ready = new Set<ManagerProcess>();
  private readonly loops: Promise<void>[] = [];
  private readonly ending = new AbortController();
  private turn = 0;

  /** Looks at a manager until it is gone. */
  watch(manager: ManagerProcess): void {
    this.loops.push(this.probe(manager));
  }

  /** Calls as soon as the former call is answered and `isTime` has resolved. */
  keepCalling(id: string, payload: string, isTime: () => Promise<unknown> = () => delay(20)): Calling {
    const calling = { seen: new Set<string>(), count: 0 };
    const loop = async () => {
      while (!this.ending.signal.aborted) {
        const result = await this.call(id, payload);
        if (result !== undefined) calling.seen.add(result);
        calling.count += 1;
        await isTime();
      }
    };
    this.loops.push(loop());
    return calling;
  }

  /** Undefined when it failed, which is noted. */
  async call(id: string, payload = '', through?: ManagerProcess): Promise<string | undefined> {
    const manager = through ?? (await this.next());
    const began = new Date();
    const fail = (what: string) => {
      const [from, to] = [began, new Date()].map((time) => time.toISOString());
      this.failures.push(
        `a call of ${id} with "${payload}" through manager ${manager.name}, from ${from} to ${to}: ${what}`,
      );
      return undefined;
    };
    try {
      const body = JSON.stringify({ payload });
      const signal = AbortSignal.timeout(CALL_MS);
      const answer = await send(`${manager.url}/functions/${id}/execute`, { method: 'POST', body, signal });
      return answer.status === 200 ? (answer.json() as { result: string }).result : fail(answer.text);
    } catch (error) {
      return fail(String(error));
    }
  }

  async end(): Promise<void> {
    this.ending.abort();
    await Promise.all(this.loops);
  }

  get isEnding(): boolean {
    return this.ending.signal.aborted;
  }

  private async next(): Promise<ManagerProcess> {
    await vi.waitUntil(() => this.ready.size > 0, { timeout: CALL_MS, interval: 10 });
    const managers = [...this.ready];
    this.turn += 1;
    return managers[this.turn % managers.length]!;
  }

  private async probe(manager: ManagerProcess): Promise<void> {
    while (!this.ending.signal.aborted && manager.url !== undefined) {
      const isReady = await send(`${manager.url}${READY}`).then(
        ({ status }) => status === 200,
        () => false,
      );
      if (isReady) this.ready.add(manager);
      else this.ready.delete(manager);
      await delay(PROBE_MS);
    }
    this.ready.delete(manager);
  }
}
