import { DEMAND_WINDOW_MS } from './pool-target.js';
import type { FunctionId } from './workload.js';

/** Of the workers that wait, what is kept for functions that have none: a call waits for those. */
const KEPT_FOR_FIRST = 0.25;
/** Others that scale up a moment later find something, too. */
const FEWEST_SHARERS = 2;

/** Shares waiting workers among functions that want more than their first replica at about the same time. */
export class FairShare {
  private given: { readonly functionId: FunctionId; readonly at: number }[] = [];

  /** Whether the function may have one more of those that are ready, which is counted as given. */
  grant(functionId: FunctionId, ready: number, target: number): boolean {
    const now = performance.now();
    this.given = this.given.filter(({ at }) => now - at < DEMAND_WINDOW_MS);
    const shared = ready - Math.ceil(target * KEPT_FOR_FIRST);
    const sharers = new Set([functionId, ...this.given.map((one) => one.functionId)]).size;
    const share = (shared + this.given.length) / Math.max(sharers, FEWEST_SHARERS);
    const its = this.given.filter((one) => one.functionId === functionId).length;
    if (shared < 1 || its >= Math.max(1, share)) return false;
    this.given.push({ functionId, at: now });
    return true;
  }
}
