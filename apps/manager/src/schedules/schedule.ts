import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Cron } from 'croner';
import type { CallbackFormat, RetryPolicy } from '../invocations/invocation.js';
import type { Choice } from '../traffic/traffic.js';

/** What becomes of a time at which a call of the schedule still waits or runs. */
export const OVERLAPS = ['skip', 'queue', 'allow'] as const;
export type Overlap = (typeof OVERLAPS)[number];

/** Why a time had no call: an earlier one wasn't over, nobody was there in time, or the queue was full. */
export const MISSED = ['overlap', 'late', 'queue_full'] as const;
export type MissedReason = (typeof MISSED)[number];

/** When a schedule fires: by a calendar, or so many milliseconds apart from its beginning on. */
export type Timing =
  { readonly cron: string; readonly timezone: string } | { readonly intervalMs: number; readonly anchorAt: Date };

/** A firing within this time, and that of its jitter, is on time; a later one is one that was missed. */
export const ON_TIME_MS = 10_000;
/** Times that are counted one by one; of more only the newest counts. */
const MOST_COUNTED = 20;

/** What users say of a schedule. */
export interface ScheduleSpec {
  readonly cron: string | null;
  readonly intervalMs: number | null;
  readonly timezone: string;
  /** `{"payload": "…"}`, as workers get it. */
  readonly body: Buffer;
  readonly payloadBytes: number;
  readonly overlap: Overlap;
  readonly catchUpMs: number;
  readonly jitterMs: number;
  /** 0: never. */
  readonly pauseAfterFailures: number;
  readonly enabled: boolean;
  readonly priority: number;
  readonly retry: RetryPolicy;
  readonly maxAgeMs: number;
  readonly choice: Choice | null;
  readonly callbackUrl: string | null;
  readonly callbackFormat: CallbackFormat;
}

/** A schedule as its row has it. */
export interface Schedule extends ScheduleSpec {
  readonly functionId: FunctionId;
  readonly name: string;
  readonly version: number;
  /** From when on intervals are counted. */
  readonly anchorAt: Date;
  /** The time that it fires for next; null: none. */
  readonly nextAt: Date | null;
  /** When that is to be made; null: it rests. */
  readonly dueAt: Date | null;
  /** The latest time that a call was made for: none is made for one that is not after it. */
  readonly firedFor: Date | null;
  /** It waits for the end of an earlier call. */
  readonly isHeld: boolean;
  /** It rests with its function. */
  readonly isResting: boolean;
  readonly pausedAt: Date | null;
  /** Calls in a row that have failed for good. */
  readonly failures: number;
  readonly fired: number;
  readonly missed: number;
  readonly lastMissedFor: Date | null;
  readonly lastMissedReason: MissedReason | null;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  readonly updatedBy: string | null;
}

export function timingOf({
  cron,
  timezone,
  intervalMs,
  anchorAt,
}: Pick<Schedule, 'cron' | 'timezone' | 'intervalMs' | 'anchorAt'>): Timing {
  return cron === null ? { intervalMs: intervalMs as number, anchorAt } : { cron, timezone };
}

/**
 * On the days on which clocks change a time of the calendar that occurs twice counts once, the first time, and one that
 * doesn't occur counts at the end of the gap, unless the expression has a `*` or a step for seconds, minutes or hours:
 * then it goes by the time that passes. As cron does; it throws where the expression is none.
 */
export function calendar(cron: string, timezone: string): Cron {
  return new Cron(cron, { timezone, mode: '5-or-6-parts', fixedTimeRule: 'no-wildcard' });
}

/** Whether this manager can read it, and knows its time zone. */
export function isCalendar(cron: string, timezone: string): boolean {
  try {
    calendar(cron, timezone).nextRun(new Date(0));
    return true;
  } catch {
    return false;
  }
}

/** The first time after a moment; null: there is none. */
export function nextAfter(timing: Timing, moment: Date): Date | null {
  return timesAfter(timing, moment, 1)[0] ?? null;
}

export function timesAfter(timing: Timing, moment: Date, count: number): Date[] {
  if ('cron' in timing) return calendar(timing.cron, timing.timezone).nextRuns(count, moment);
  const { intervalMs, anchorAt } = timing;
  const passed = Math.max(0, Math.floor((moment.getTime() - anchorAt.getTime()) / intervalMs));
  return Array.from({ length: count }, (_, index) => new Date(anchorAt.getTime() + (passed + 1 + index) * intervalMs));
}

/** Times after one moment, which is a time itself, and not after another. */
interface Passed {
  readonly count: number;
  readonly latest: Date;
  /** The one before the latest. */
  readonly former: Date;
}

/** Undefined: none has passed. */
export function passedBetween(timing: Timing, after: Date, upTo: Date): Passed | undefined {
  if (!('cron' in timing)) {
    const { intervalMs } = timing;
    const count = Math.floor((upTo.getTime() - after.getTime()) / intervalMs);
    const latest = new Date(after.getTime() + count * intervalMs);
    return count <= 0 ? undefined : { count, latest, former: new Date(latest.getTime() - intervalMs) };
  }
  const times = calendar(timing.cron, timing.timezone);
  let passed: Passed | undefined;
  for (let count = 1; ; count += 1) {
    const former = passed?.latest ?? after;
    const latest = times.nextRun(former);
    if (latest === null || latest > upTo) return passed;
    passed = { count, latest, former };
    if (count === MOST_COUNTED) {
      // Its own moment counts, too.
      const [last = latest, beforeLast = former] = times.previousRuns(2, new Date(upTo.getTime() + 1));
      return { count, latest: last, former: beforeLast };
    }
  }
}

/** The least time between any two of the next few times; infinity: there is at most one. */
export function shortestGap(timing: Timing, moment: Date): number {
  const times = timesAfter(timing, moment, 10);
  return Math.min(...times.slice(1).map((time, index) => time.getTime() - (times[index] as Date).getTime()), Infinity);
}

/** Times that no call was made for. */
export interface Missed {
  readonly reason: MissedReason;
  readonly count: number;
  readonly last: Date;
}

/** What becomes of a schedule that is due. */
export interface Decision {
  /** The time that a call is made for. */
  readonly fires: Date | null;
  readonly missed: readonly Missed[];
  /** A call for `nextAt` is made when the earlier one has ended. */
  readonly isHeld: boolean;
  readonly nextAt: Date | null;
}

/**
 * Decides about a schedule that is due. Of times that nobody was there for the last one is made up for, if it is not
 * too long ago; of times that pass while a call waits for an earlier one, none.
 *
 * @param isOpen whether an earlier call of it waits or runs
 */
export function decide(
  schedule: Pick<
    Schedule,
    'cron' | 'timezone' | 'intervalMs' | 'anchorAt' | 'jitterMs' | 'isHeld' | 'overlap' | 'catchUpMs'
  > & { readonly nextAt: Date },
  isOpen: boolean,
  now: Date,
): Decision {
  const timing = timingOf(schedule);
  const { nextAt, isHeld, overlap } = schedule;
  if (isHeld && isOpen && overlap === 'queue') return { fires: null, missed: [], isHeld: true, nextAt };
  const onTimeMs = schedule.jitterMs + ON_TIME_MS;
  const isLate = !isHeld && now.getTime() - nextAt.getTime() > onTimeMs;
  const passed = isHeld || isLate ? passedBetween(timing, nextAt, now) : undefined;
  const at = isHeld ? nextAt : (passed?.latest ?? nextAt);
  const next = nextAfter(timing, passed?.latest ?? nextAt);
  const before: Missed[] = [];
  if (passed !== undefined) {
    const { count, latest, former } = passed;
    before.push(isHeld ? { reason: 'overlap', count, last: latest } : { reason: 'late', count, last: former });
  }
  const isTooLate = isLate && now.getTime() - at.getTime() > Math.max(onTimeMs, schedule.catchUpMs);
  const without = (reason: MissedReason): Decision => ({
    fires: null,
    missed: [...before, { reason, count: 1, last: at }],
    isHeld: false,
    nextAt: next,
  });
  if (isTooLate) return without('late');
  if (isOpen && overlap === 'skip') return without('overlap');
  if (isOpen && overlap === 'queue') return { fires: null, missed: before, isHeld: true, nextAt: at };
  return { fires: at, missed: before, isHeld: false, nextAt: next };
}
