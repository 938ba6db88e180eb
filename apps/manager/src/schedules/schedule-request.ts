import { isDnsLabel } from '#libs/names/dns-label.js';
import { LONGEST_AGE_MS } from '#libs/config/config.js';
import { PayloadTooLarge } from '../gateway/errors.js';
import { InvalidInvocation } from '../invocations/errors.js';
import { POLICY_NAMES } from '../invocations/invocation-policy.js';
import { type Members, policyIn, priorityIn, type RequestLimits, wholeIn } from '../invocations/invocation-request.js';
import { PRIORITIES } from '../invocations/invocation.js';
import type { Choice } from '../traffic/traffic.js';
import { InvalidSchedule } from './errors.js';
import { calendar, OVERLAPS, type Overlap, type ScheduleSpec, shortestGap, type Timing } from './schedule.js';

export const LEAST_INTERVAL_MS = 1_000;
export const MOST_INTERVAL_MS = 366 * 24 * 3_600_000;
export const MOST_JITTER_MS = 24 * 3_600_000;
export const MOST_FAILURES = 1_000;
export const LONGEST_CRON = 256;
/** All of a function's schedules are read at once. */
export const MOST_PAYLOAD_BYTES = 32 * 1024;
const DEFAULT_CATCH_UP_MS = 3_600_000;
const MOST_REVISION = 999_999_999;

const KNOWN = [
  'cron',
  'interval_ms',
  'timezone',
  'payload',
  'overlap',
  'catch_up_ms',
  'jitter_ms',
  'pause_after_failures',
  'enabled',
  'revision',
  'tag',
  'priority',
  ...POLICY_NAMES,
];

export function checkName(name: string): void {
  if (isDnsLabel(name)) return;
  throw new InvalidSchedule(
    'name',
    "A schedule's name must have lower-case letters, digits and hyphens, at most 63, and begin and end with a letter or digit.",
  );
}

/**
 * Reads what a schedule shall be. Throws {@link InvalidSchedule} with the member at fault, or {@link PayloadTooLarge}.
 *
 * @param now from which on its expression must have a time
 */
export function specIn(members: Members, limits: RequestLimits, now: Date): ScheduleSpec {
  const unknown = Object.keys(members).find((name) => !KNOWN.includes(name));
  if (unknown !== undefined) {
    const shown = unknown.slice(0, 64);
    throw new InvalidSchedule(shown, `There is no member ${JSON.stringify(shown)}. Known: ${KNOWN.join(', ')}.`);
  }
  try {
    const timing = timingIn(members, now);
    return {
      ...timing,
      ...payloadIn(members, Math.min(limits.payloadBytes, MOST_PAYLOAD_BYTES)),
      overlap: overlapIn(members),
      catchUpMs: wholeIn(members, 'catch_up_ms', 0, LONGEST_AGE_MS) ?? DEFAULT_CATCH_UP_MS,
      jitterMs: jitterIn(members, timing, now),
      pauseAfterFailures: wholeIn(members, 'pause_after_failures', 0, MOST_FAILURES) ?? 0,
      enabled: enabledIn(members),
      choice: choiceIn(members),
      priority: PRIORITIES.indexOf(priorityIn(members)),
      ...policyIn(members, limits),
    };
  } catch (error) {
    if (error instanceof InvalidInvocation) throw new InvalidSchedule(error.extras.field ?? 'body', error.message);
    throw error;
  }
}

type SpecTiming = Pick<ScheduleSpec, 'cron' | 'intervalMs' | 'timezone'>;

function timingIn(members: Members, now: Date): SpecTiming {
  const { cron } = members;
  const timezone = timezoneIn(members);
  const intervalMs = wholeIn(members, 'interval_ms', LEAST_INTERVAL_MS, MOST_INTERVAL_MS);
  if (cron === undefined || cron === null) {
    if (intervalMs !== undefined) return { cron: null, intervalMs, timezone };
    throw new InvalidSchedule('cron', 'Say when: cron, such as "0 3 * * *" or "@daily", or interval_ms.');
  }
  if (intervalMs !== undefined) throw new InvalidSchedule('interval_ms', 'Send cron or interval_ms, not both.');
  if (typeof cron !== 'string' || cron.length > LONGEST_CRON) {
    throw new InvalidSchedule('cron', `cron must be a text of at most ${LONGEST_CRON} characters.`);
  }
  checkCron(cron, timezone, now);
  return { cron: cron.trim(), intervalMs: null, timezone };
}

const EXAMPLES =
  'Five fields (minute, hour, day, month, weekday) or six (second first), or @hourly, @daily, @weekly, …';

function checkCron(cron: string, timezone: string, now: Date): void {
  // The library takes what has one for a moment.
  if (cron.includes(':')) throw new InvalidSchedule('cron', `cron must have no colon. ${EXAMPLES}`);
  let next: Date | null;
  try {
    next = calendar(cron, timezone).nextRun(now);
  } catch (error) {
    const why = said(error as Error).slice(0, 300);
    throw new InvalidSchedule('cron', `cron is no expression: ${why.replace(/\.$/, '')}. ${EXAMPLES}`);
  }
  if (next === null) {
    throw new InvalidSchedule('cron', 'cron never fires: no year has a day that it names. Look at day and month.');
  }
}

const FIELDS: Readonly<Record<string, string>> = { dayOfWeek: 'weekday', nearestWeekdays: 'day' };

/** The library counts days and months from zero where it names what is wrong, and knows a seventh field. */
function said({ message }: Error): string {
  const [, field] = /Invalid value for (\w+)/.exec(message) ?? [];
  if (field !== undefined) return `a value of ${FIELDS[field] ?? field} is out of its range`;
  return /exactly (five|5)/.test(message) ? 'it has five or six fields' : message.replace(/^CronPattern: /, '');
}

/** Only names: an offset knows no clock changes. */
function timezoneIn({ timezone }: Members): string {
  if (timezone === undefined || timezone === null) return 'UTC';
  if (typeof timezone === 'string' && /^[A-Za-z][\w+/-]{0,63}$/.test(timezone)) {
    try {
      Intl.DateTimeFormat('en', { timeZone: timezone });
      return timezone;
    } catch {
      // Said below.
    }
  }
  const shown = typeof timezone === 'string' ? ` ${JSON.stringify(timezone.slice(0, 64))} is none.` : '';
  throw new InvalidSchedule(
    'timezone',
    `timezone must be a name of the IANA time zone database, such as Europe/Berlin or UTC.${shown}`,
  );
}

function payloadIn(members: Members, most: number): Pick<ScheduleSpec, 'body' | 'payloadBytes'> {
  const payload = members['payload'] ?? '';
  if (typeof payload !== 'string') throw new InvalidSchedule('payload', 'payload must be a string.');
  const payloadBytes = Buffer.byteLength(payload);
  if (payloadBytes > most) throw new PayloadTooLarge(most);
  return { body: Buffer.from(JSON.stringify({ payload })), payloadBytes };
}

function overlapIn({ overlap }: Members): Overlap {
  if (overlap === undefined || overlap === null) return 'skip';
  const known = OVERLAPS.find((one) => one === overlap);
  if (known !== undefined) return known;
  throw new InvalidSchedule('overlap', `overlap must be ${OVERLAPS.join(', ')}.`);
}

/** The next time must not come before one that is put off. */
function jitterIn(members: Members, { cron, intervalMs, timezone }: SpecTiming, now: Date): number {
  const jitterMs = wholeIn(members, 'jitter_ms', 0, MOST_JITTER_MS) ?? 0;
  if (jitterMs === 0) return 0;
  const timing: Timing = cron === null ? { intervalMs: intervalMs as number, anchorAt: now } : { cron, timezone };
  const gap = shortestGap(timing, now);
  if (jitterMs < gap) return jitterMs;
  throw new InvalidSchedule('jitter_ms', `jitter_ms must be less than the ${gap} milliseconds between two firings.`);
}

function enabledIn({ enabled }: Members): boolean {
  if (enabled === undefined || enabled === null) return true;
  if (typeof enabled === 'boolean') return enabled;
  throw new InvalidSchedule('enabled', 'enabled must be true or false.');
}

function choiceIn(members: Members): Choice | null {
  const { tag } = members;
  const revision = wholeIn(members, 'revision', 1, MOST_REVISION);
  if (tag === undefined || tag === null) return revision === undefined ? null : { revision };
  if (revision !== undefined) throw new InvalidSchedule('tag', 'Send revision or tag, not both.');
  if (isDnsLabel(tag)) return { tag };
  throw new InvalidSchedule('tag', 'tag must be the tag of a target of the traffic.');
}
