import type { Load } from './demand.repository.js';

/** Replicas are kept this full, so that the next call finds a slot while another replica is on its way. */
const TARGET_FILL = 0.7;
/** Of the replicas that are too many, this part goes at a time. */
const LEAVING_PART = 0.25;

/**
 * How many replicas a function should have. Up at once, by the calls of the last moments; down slowly, by the most there
 * were lately: a minute, as in Knative's autoscaler, unless configured.
 */
export function desiredReplicas(load: Load): number {
  const { replicas, minReplicas, maxReplicas, concurrency } = load;
  const needed = (calls: number) => Math.ceil(calls / (concurrency * TARGET_FILL) - 1e-9);
  const now = needed(load.callsNow);
  const lately = needed(load.callsLately);
  const least = Math.max(1, minReplicas);
  const bounded = (count: number) => Math.min(maxReplicas, Math.max(least, count));
  if (now > replicas) return bounded(now);
  if (replicas > maxReplicas || replicas < least) return bounded(replicas);
  const tooMany = replicas - Math.max(now, lately, least);
  return tooMany <= 0 ? replicas : replicas - Math.ceil(tooMany * LEAVING_PART);
}

export function wantsMore(loads: readonly Load[]): boolean {
  return loads.some((load) => desiredReplicas(load) > load.replicas);
}

export interface ScaleStep {
  readonly load: Load;
  readonly to: number;
}

/**
 * What to change, those that give memory back first. What `freeMiB` can't hold is shared out one replica at a time, so
 * that no function's burst starves the others.
 */
export function scaleSteps(loads: readonly Load[], freeMiB: number): ScaleStep[] {
  const wishes = loads.map((load) => ({ load, to: desiredReplicas(load) }));
  const down = wishes.filter(({ load, to }) => to < load.replicas);
  let free = down.reduce((sum, { load, to }) => sum + (load.replicas - to) * load.memoryMiB, freeMiB);
  const up = wishes.filter(({ load, to }) => to > load.replicas).map((wish) => ({ ...wish, granted: 0 }));
  for (let gave = true; gave;) {
    gave = false;
    for (const wish of up) {
      if (wish.load.replicas + wish.granted >= wish.to || wish.load.memoryMiB > free) continue;
      wish.granted += 1;
      free -= wish.load.memoryMiB;
      gave = true;
    }
  }
  const granted = up.filter((wish) => wish.granted > 0);
  return [...down, ...granted.map(({ load, granted: more }) => ({ load, to: load.replicas + more }))];
}
