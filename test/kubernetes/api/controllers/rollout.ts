/** One ReplicaSet of a Deployment, as a rollout sees it. */
export interface SetView {
  readonly name: string;
  /** Wanted. */
  readonly replicas: number;
  /** There are. */
  readonly pods: number;
  readonly available: number;
  readonly created: number;
}

export interface RolloutPlan {
  readonly replicas: number;
  readonly maxSurge: number | string;
  readonly maxUnavailable: number | string;
  readonly recreate: boolean;
}

/**
 * The next size of every ReplicaSet: the new one grows as far as the surge lets it, the old ones shrink as far as
 * availability lets them, first what is not available anyway.
 */
export function nextSizes(plan: RolloutPlan, newest: SetView, older: readonly SetView[]): Map<string, number> {
  if (plan.recreate) return recreated(plan, newest, older);
  const { surge, unavailable } = bounds(plan);
  const sizes = new Map([newest, ...older].map(({ name, replicas }) => [name, replicas]));
  const total = sum([newest, ...older], ({ replicas }) => replicas);
  if (newest.replicas > plan.replicas) sizes.set(newest.name, plan.replicas);
  else {
    const room = Math.max(0, plan.replicas + surge - total);
    sizes.set(newest.name, newest.replicas + Math.min(room, plan.replicas - newest.replicas));
  }
  if (sizes.get(newest.name) !== newest.replicas) return sizes;
  shrink(sizes, plan.replicas - unavailable, newest, older);
  return sizes;
}

function recreated(plan: RolloutPlan, newest: SetView, older: readonly SetView[]): Map<string, number> {
  const sizes = new Map(older.map(({ name }) => [name, 0]));
  const isClear = older.every(({ pods, replicas }) => pods === 0 && replicas === 0);
  return sizes.set(newest.name, isClear ? plan.replicas : newest.replicas);
}

function shrink(sizes: Map<string, number>, minAvailable: number, newest: SetView, older: readonly SetView[]): void {
  const active = older.filter(({ replicas }) => replicas > 0).toSorted((a, b) => a.created - b.created);
  const total = sum([newest, ...active], ({ replicas }) => replicas);
  const newUnavailable = newest.replicas - newest.available;
  let removable = total - minAvailable - newUnavailable;
  for (const set of active) {
    const count = Math.min(Math.max(0, removable), set.replicas - set.available);
    sizes.set(set.name, set.replicas - count);
    removable -= count;
  }
  let spare = sum([newest, ...active], ({ available }) => available) - minAvailable;
  for (const set of active) {
    const size = sizes.get(set.name) ?? 0;
    const count = Math.min(Math.max(0, spare), size);
    sizes.set(set.name, size - count);
    spare -= count;
  }
}

/** Percentages of the wanted replicas: a surge is rounded up, unavailability down; never both 0. */
function bounds({ replicas, maxSurge, maxUnavailable }: RolloutPlan): { surge: number; unavailable: number } {
  const surge = Math.ceil(share(maxSurge, replicas));
  const unavailable = Math.floor(share(maxUnavailable, replicas));
  return { surge, unavailable: surge === 0 && unavailable === 0 ? 1 : Math.min(unavailable, replicas) };
}

function share(value: number | string, whole: number): number {
  return typeof value === 'number' ? value : (Number.parseInt(value, 10) / 100) * whole;
}

function sum(sets: readonly SetView[], pick: (set: SetView) => number): number {
  return sets.reduce((total, set) => total + pick(set), 0);
}
