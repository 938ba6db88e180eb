import { kindOf, LONGEST_WAIT_MS } from './generic-worker.js';
import type { EndpointAddress } from './workload.js';

const ASK_MS = 500;
/**
 * A worker that was never started, or that has a function and not yet its name, is left alone for so long: its manager may
 * be about to finish. A manager whose worker is removed too early starts another.
 */
const HALF_MADE_MS = 10_000;
/** What a manager may take to replace a generic worker, or to name one that it has just taken. */
const WAIT_MARGIN_MS = 10 * 60_000;

/** Finds workers of the pool that no living manager keeps, by how long this manager has seen them. */
export class OrphanedWorkers {
  private readonly seen = new Map<string, number>();
  /** When those were first seen that don't answer as a generic worker does. */
  private readonly odd = new Map<string, number>();

  /** @param silentMs longer than a generic worker takes to start */
  constructor(
    private readonly silentMs: number,
    private readonly waitMs = LONGEST_WAIT_MS + WAIT_MARGIN_MS,
  ) {}

  /** Forgets workers that are gone. */
  keep(ids: ReadonlySet<string>): void {
    for (const known of [this.seen, this.odd]) for (const id of known.keys()) if (!ids.has(id)) known.delete(id);
  }

  /**
   * Whether a worker is to be removed. A generic worker has long, as another manager may keep it and it ends by itself
   * otherwise; but not for ever, as handler code that has its socket can answer as a generic worker does.
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
