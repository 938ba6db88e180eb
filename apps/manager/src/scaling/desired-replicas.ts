import type { Load } from './demand.repository.js';

/** The part of the slots to use: the next call finds a free one while another replica starts. */
export const TARGET_FILL = 0.7;
/** The part of the surplus replicas that is removed at a time. */
const REMOVED_PART = 0.25;

/**
 * How many replicas a function should have. Up at once, by the calls of the last moments. Down slowly, by the most
 * calls of the last minute (as in Knative's autoscaler), or of the time that is configured.
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
  return tooMany <= 0 ? replicas : replicas - Math.ceil(tooMany * REMOVED_PART);
}

export function wantsMore(loads: readonly Load[]): boolean {
  return loads.some((load) => desiredReplicas(load) > load.replicas);
}

export interface ScaleStep {
  readonly load: Load;
  readonly to: number;
}

/**
 * What to change, functions that lose replicas first. If `freeMiB` isn't enough for all, it is given out one replica at
 * a time, so that a burst of one function doesn't starve the others.
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
