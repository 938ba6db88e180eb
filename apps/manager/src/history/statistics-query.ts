import { InvalidRequest } from '#libs/errors/errors.js';

/** A time that is asked for, in steps. */
export interface Window {
  readonly since: Date;
  readonly until: Date;
  readonly stepSeconds: number;
  readonly revision: number | undefined;
}

export const DEFAULT_WINDOW = '1h';
const FORM = /^(\d{1,4})([mhd])$/;
const SECONDS = { m: 60, h: 3_600, d: 86_400 } as const;
const LONGEST_SECONDS = 31 * SECONDS.d;
/** A longer time is told by the hour. */
const MOST_BY_MINUTE_SECONDS = SECONDS.d;

/** The last so many minutes, hours or days, with the step under way. */
export function windowOf(
  { window = DEFAULT_WINDOW, revision }: Readonly<Record<string, unknown>>,
  now: number,
): Window {
  const [, count, unit] = (typeof window === 'string' ? FORM.exec(window) : null) ?? [];
  const seconds = Number(count) * SECONDS[(unit ?? 'm') as keyof typeof SECONDS];
  if (!(seconds >= SECONDS.m && seconds <= LONGEST_SECONDS)) {
    throw new InvalidRequest('window must be a time such as 30m, 6h or 7d, of 31 days at most.', 'window');
  }
  const isNumber = revision === undefined || (typeof revision === 'string' && /^[1-9]\d{0,8}$/.test(revision));
  if (!isNumber) throw new InvalidRequest('revision must be the number of a revision.', 'revision');
  const stepSeconds = seconds > MOST_BY_MINUTE_SECONDS ? SECONDS.h : SECONDS.m;
  const stepMs = stepSeconds * 1_000;
  const until = new Date((Math.floor(now / stepMs) + 1) * stepMs);
  const since = new Date(until.getTime() - Math.ceil(seconds / stepSeconds) * stepMs);
  return { since, until, stepSeconds, revision: revision === undefined ? undefined : Number(revision) };
}
