import { kindOf } from './generic-worker.js';
import type { EndpointAddress } from './workload.js';

const ASK_MS = 500;
/**
 * For one that was never started, and for one that has a function but not its name, as when the engine ended in between.
 * If that was only about to come, whoever is at it finds the worker gone and makes another.
 */
const HALF_MADE_MS = 10_000;

/** Workers of the pool that aren't ours and don't answer as generic ones, by when they were first seen so. */
export class Strays {
  private readonly since = new Map<string, number>();

  /** @param silentMs longer than a generic worker takes to start */
  constructor(private readonly silentMs: number) {}

  /** Forgets all others. */
  keep(ids: ReadonlySet<string>): void {
    for (const id of this.since.keys()) if (!ids.has(id)) this.since.delete(id);
  }

  /** Whether it has been so for long enough. One that waits for a function never is: it ends by itself. */
  async has(id: string, address: EndpointAddress | undefined, isStarted = true): Promise<boolean> {
    const kind = address === undefined ? 'silent' : await kindOf(address, false, ASK_MS);
    if (kind === 'generic') {
      this.since.delete(id);
      return false;
    }
    const since = this.since.get(id) ?? Date.now();
    this.since.set(id, since);
    return Date.now() - since >= (!isStarted || kind === 'other' ? HALF_MADE_MS : this.silentMs);
  }
}
