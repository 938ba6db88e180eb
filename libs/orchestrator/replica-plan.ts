import type { EndpointAddress, Observed, Workload, WorkloadFault } from './workload.js';

/** A live replica that wasn't told to leave, oldest first in any list. */
export interface Standing {
  readonly replica: string;
  readonly hash: string;
  readonly ready: boolean;
  readonly address: EndpointAddress;
  readonly credential?: string | undefined;
  readonly revision?: number | undefined;
}

export interface Plan {
  readonly start: number;
  /** Replicas to tell to leave. */
  readonly drain: readonly string[];
}

/** @param withheld replicas of this spec that ended and may not be replaced now */
export function planFor(standing: readonly Standing[], hash: string, wanted: number, withheld: number): Plan {
  const current = standing.filter((one) => one.hash === hash);
  const former = standing.filter((one) => one.hash !== hash);
  const byWorth = current.toSorted((a, b) => Number(b.ready) - Number(a.ready));
  const surplus = byWorth.slice(wanted);
  const ready = current.filter((one) => one.ready).length;
  const leaving = ready >= wanted ? [...surplus, ...former] : surplus;
  return {
    start: Math.max(0, wanted - current.length - withheld),
    drain: leaving.map(({ replica }) => replica),
  };
}

/**
 * How many replicas may not be started now: all where `startsNone` says so or the handler can't be loaded; while backing
 * off, those that ended.
 */
export function withheldOf(
  fault: { readonly reason: WorkloadFault; readonly owed: number } | undefined,
  { replaceEndedFrom, startsNone = false }: Pick<Workload, 'replaceEndedFrom' | 'startsNone'>,
  now: Date,
): number {
  if (startsNone) return Infinity;
  if (fault === undefined) return 0;
  if (fault.reason.terminal) return Infinity;
  return replaceEndedFrom !== undefined && now < replaceEndedFrom ? fault.owed : 0;
}

/** What the function looks like once the plan was carried out; `standing` holds what still stands. */
export function observedOf(
  standing: readonly Standing[],
  hash: string,
  wanted: number,
  primary: string,
  fault: WorkloadFault | undefined,
): Observed {
  const current = standing.filter((one) => one.hash === hash);
  const ready = current.filter((one) => one.ready);
  const former = standing.filter((one) => one.hash !== hash && one.ready);
  const serving = ready.length < wanted ? [...ready, ...former] : ready;
  const seen = {
    replicas: current.length,
    ready: ready.length,
    endpoints: serving.map(({ replica, address, credential, revision }) => ({
      replica,
      address,
      ...(credential !== undefined && { credential }),
      ...(revision !== undefined && { revision }),
    })),
    primary: current.length > 0 ? primary : '',
    hostPort: 0,
  };
  if (fault !== undefined) return { ...seen, reason: fault };
  if (ready.length >= wanted) return seen;
  const reason = { code: 'starting', message: 'The worker is starting.', terminal: false, at: new Date() } as const;
  return { ...seen, reason };
}
