import type { FunctionId } from '#libs/orchestrator/workload.js';
import type { EndedCall } from '../gateway/call-ends.js';

const MINUTE_MS = 60_000;
/** The first bucket ends here, in milliseconds; four more double it. */
const FIRST_MS = 0.1;
const PER_DOUBLING = 4;
/** The last takes what is longer, too: from about two hours on. */
const BUCKETS = 106;

/** So many may wait to be written. */
export const MOST_MINUTES = 20_000;

/** What one minute has of a function's revision. */
export interface Minute {
  readonly functionId: FunctionId;
  readonly revision: number;
  /** Milliseconds since the epoch. */
  readonly at: number;
  calls: number;
  failed: number;
  cancelled: number;
  coldStarts: number;
  /** Calls that a worker had, by how long they took in all. */
  readonly durations: number[];
}

export const CANCELLED = 'call_cancelled';

/** Adds calls up by function, revision and minute. */
export class Minutes {
  private readonly all = new Map<string, Minute>();
  private last: Minute | undefined;

  get size(): number {
    return this.all.size;
  }

  /**
   * False: there is no room for another sum.
   *
   * @param now the time, in milliseconds since the epoch, at which the call has ended
   */
  add({ timing, code, endedAt, kind, attemptOf }: EndedCall, now: number): boolean {
    const { calledId: functionId } = timing;
    // Each run is a function of its own, which nobody asks for.
    if (functionId === undefined || kind === 'run') return true;
    const totalMs = endedAt - timing.startedAt;
    const at = Math.floor((now - totalMs) / MINUTE_MS) * MINUTE_MS;
    const minute = this.of(functionId, timing.revision > 0 ? timing.revision : timing.servedBy, at);
    if (minute === undefined) return false;
    minute.calls += 1;
    if (code === CANCELLED) minute.cancelled += 1;
    else if (code !== undefined) minute.failed += 1;
    if (timing.isCold) minute.coldStarts += 1;
    // Nobody waits for the answer to an attempt, and how long it has waited is said elsewhere.
    if (timing.sentAt > 0 && !timing.isWebSocket) count(minute.durations, attemptOf ? timing.workerMs : totalMs);
    return true;
  }

  /** As many of them at most, in the order in which all statements lock their rows. */
  take(most: number): Minute[] {
    const taken: Minute[] = [];
    for (const [key, minute] of this.all) {
      if (taken.length === most) break;
      taken.push(minute);
      this.all.delete(key);
    }
    this.last = undefined;
    return taken.toSorted((a, b) => compare(a.functionId, b.functionId) || a.at - b.at || a.revision - b.revision);
  }

  private of(functionId: FunctionId, revision: number, at: number): Minute | undefined {
    const { last } = this;
    if (last?.functionId === functionId && last.revision === revision && last.at === at) return last;
    const key = `${functionId} ${at} ${revision}`;
    let minute = this.all.get(key);
    if (minute === undefined) {
      if (this.all.size >= MOST_MINUTES) return undefined;
      minute = { functionId, revision, at, calls: 0, failed: 0, cancelled: 0, coldStarts: 0, durations: [] };
      this.all.set(key, minute);
    }
    this.last = minute;
    return minute;
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function count(durations: number[], ms: number): void {
  const bucket = ms <= FIRST_MS ? 0 : Math.min(BUCKETS - 1, Math.ceil(Math.log2(ms / FIRST_MS) * PER_DOUBLING));
  while (durations.length <= bucket) durations.push(0);
  durations[bucket] = (durations[bucket] as number) + 1;
}

/** What so large a part of the calls took at most, in milliseconds, a tenth off at worst; null: there were none. */
export function quantileOf(durations: readonly number[], part: number): number | null {
  const total = durations.reduce((sum, calls) => sum + calls, 0);
  if (total === 0) return null;
  const wanted = part * total;
  let before = 0;
  for (const [bucket, calls] of durations.entries()) {
    if (calls === 0 || before + calls < wanted) {
      before += calls;
      continue;
    }
    const within = (wanted - before) / calls;
    return rounded(FIRST_MS * 2 ** ((bucket - 1 + within) / PER_DOUBLING));
  }
  return rounded(FIRST_MS * 2 ** ((durations.length - 1) / PER_DOUBLING));
}

function rounded(ms: number): number {
  return Number(ms.toPrecision(3));
}
