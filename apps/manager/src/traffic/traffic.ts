import type { FunctionId } from '#libs/orchestrator/workload.js';
import { createHash } from 'node:crypto';
import type { RevisionError } from '../revisions/revision.entity.js';

/** A share of a function's calls. */
export interface Target {
  readonly revision: number;
  /** In whole hundredths of all calls; 0: only calls that name it. */
  readonly percent: number;
  /** What calls may name in place of the number. */
  readonly tag?: string;
}

/** A target whose workers are those of one row: the function's own, or one made for this revision. */
export interface ServedTarget extends Target {
  readonly workload: FunctionId;
}

/** Traffic that users have divided. Of a function without it, the revision that serves has all calls. */
export interface Traffic {
  /** The function's version at which it was asked for. */
  readonly version: number;
  readonly targets: readonly ServedTarget[];
}

export interface WantedTarget extends ServedTarget {
  /** Replicas that must be ready before it gets its share: what its part of the present load needs. */
  readonly replicas: number;
}

/** Traffic that was asked for and isn't served yet. */
export interface WantedTraffic {
  readonly version: number;
  /** Its one target is the function's own workers, and from then on nobody divides the calls. */
  readonly isAuto: boolean;
  readonly targets: readonly WantedTarget[];
  /** RFC 3339: by when its workers must be ready. */
  readonly until: string;
  /** Why it was not to be; it stays for its maker to read, and nothing waits for it any more. */
  readonly fault: RevisionError | null;
}

/** What a call may say of the revision that it wants. */
export interface Choice {
  readonly revision?: number | undefined;
  readonly tag?: string | undefined;
  /** Calls with the same key go to the same revision while the traffic stays as it is. */
  readonly stickyKey?: string | undefined;
}

/** Its multiples, taken modulo one, are spread more evenly than random numbers, in any number. */
const GOLDEN_RATIO = 0.618_033_988_749_894_8;
/** Of a digest: more than any number of keys could tell apart. */
const POINTS = 2 ** 32;

/** Spreads the calls of one function over its targets. */
export class Split {
  private point = Math.random();

  constructor(
    private readonly id: FunctionId,
    readonly targets: readonly ServedTarget[],
  ) {}

  /** Undefined where the call names a revision or tag that isn't among the targets. */
  choose({ revision, tag, stickyKey }: Choice): ServedTarget | undefined {
    if (revision !== undefined) return this.targets.find((target) => target.revision === revision);
    if (tag !== undefined) return this.targets.find((target) => target.tag === tag);
    if (stickyKey !== undefined) return this.at(pointOf(this.id, stickyKey));
    this.point = (this.point + GOLDEN_RATIO) % 1;
    return this.at(this.point);
  }

  /** @param point in [0, 1) */
  private at(point: number): ServedTarget | undefined {
    let left = point * 100;
    for (const target of this.targets) {
      if (left < target.percent) return target;
      left -= target.percent;
    }
    return this.targets.findLast(({ percent }) => percent > 0);
  }
}

/** Where a key stands among all keys of a function, in [0, 1): the same in every manager, and after every restart. */
export function pointOf(id: FunctionId, stickyKey: string): number {
  return createHash('sha256').update(`${id} ${stickyKey}`).digest().readUInt32BE(0) / POINTS;
}

/** How many replicas the calls of several workloads need at least, were they together. */
export function loadOf(replicas: readonly number[]): number {
  // Of each, all but the last are needed, and of the last ones an unknown part.
  return replicas.reduce((sum, count) => sum + Math.max(0, count - 1), 1);
}

/**
 * How many replicas a share of the present load needs.
 *
 * @param replicas what all of it needs
 */
export function replicasFor(percent: number, replicas: number, most: number | null): number {
  if (percent === 0) return 0;
  return Math.min(Math.max(1, Math.ceil((replicas * percent) / 100)), most ?? Infinity);
}

/** What is known of a row that runs one revision. */
export interface SeenWorkload {
  readonly id: FunctionId;
  readonly revision: number;
  readonly ready: number;
  /** It has been ready once, since it was made or got this revision. */
  readonly isProven: boolean;
}

/** What becomes of wanted traffic. */
export type Settling = 'waits' | 'served' | 'late' | 'lost';

/**
 * Whether the wanted traffic can be served now. `lost`: workers that it needs are gone, or have another revision.
 *
 * @param seen the function's own workload and those made for its revisions
 */
export function settling({ targets, until }: WantedTraffic, seen: readonly SeenWorkload[], now: Date): Settling {
  const known = new Map(seen.map((workload) => [workload.id, workload]));
  let isReady = true;
  for (const { workload, revision, replicas } of targets) {
    const found = known.get(workload);
    if (found?.revision !== revision) return 'lost';
    if (!found.isProven || found.ready < replicas) isReady = false;
  }
  if (isReady) return 'served';
  return Date.parse(until) <= now.getTime() ? 'late' : 'waits';
}

/** Whether something still waits for it. */
export function isLive(wanted: WantedTraffic | null): wanted is WantedTraffic {
  return wanted?.fault === null;
}

/** The rows whose workers it needs. */
export function workersIn(traffic: Pick<Traffic, 'targets'> | null): FunctionId[] {
  return (traffic?.targets ?? []).map(({ workload }) => workload);
}
