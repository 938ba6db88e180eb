import { kindOf, LONGEST_WAIT_MS } from './generic-worker.js';
import type { EndpointAddress } from './workload.js';

const ASK_MS = 500;
/**
 * For one that was never started, and for one that has a function but not its name, as when the engine ended in between.
 * If that was only about to come, whoever is at it finds the worker gone and makes another.
 */
const HALF_MADE_MS = 10_000;
/** For its manager to replace it, and to name one that was just taken. */
const WAIT_MARGIN_MS = 10 * 60_000;

/** Workers of the pool that aren't ours, by when they were first seen. */
export class OrphanedWorkers {
  private readonly seen = new Map<string, number>();
  /** Those that don't answer as one that waits for a function does. */
  private readonly odd = new Map<string, number>();

  /** @param silentMs longer than a generic worker takes to start */
  constructor(
    private readonly silentMs: number,
    private readonly waitMs = LONGEST_WAIT_MS + WAIT_MARGIN_MS,
  ) {}

  /** Forgets all others. */
  keep(ids: ReadonlySet<string>): void {
    for (const known of [this.seen, this.odd]) for (const id of known.keys()) if (!ids.has(id)) known.delete(id);
  }

  /**
   * Whether its time is over. One that waits for a function has long, as another manager may keep it and it ends by
   * itself otherwise; but handler code that has its socket can say that it waits, too.
   */
  async has(id: string, address: EndpointAddress | undefined, isStarted = true): Promise<boolean> {
    const kind = address === undefined ? 'silent' : await kindOf(address, false, ASK_MS);
    const now = Date.now();
    if (now - sinceIn(this.seen, id, now) >= this.waitMs) return true;
    if (kind === 'generic') {
      this.odd.delete(id);
      return false;
    }
    const isHalfMade = !isStarted || kind === 'other';
    return now - sinceIn(this.odd, id, now) >= (isHalfMade ? HALF_MADE_MS : this.silentMs);
  }
}

function sinceIn(known: Map<string, number>, id: string, now: number): number {
  const since = known.get(id) ?? now;
  known.set(id, since);
  return since;
}
