/** The partition of calls that came on one day, by UTC. */
export interface DayPartition {
  readonly name: string;
  readonly day: Date;
  /** The first id of the day, and of the one after it. */
  readonly from: string;
  readonly to: string;
}

export const DAY_MS = 24 * 3_600_000;
/** No id is less, and none is greater. */
export const FIRST_ID = '00000000-0000-0000-0000-000000000000';
export const LAST_ID = 'ffffffff-ffff-ffff-ffff-ffffffffffff';

export function partitionOf(moment: Date): DayPartition {
  const day = new Date(Math.floor(moment.getTime() / DAY_MS) * DAY_MS);
  const name = `invocations_${day.toISOString().slice(0, 10).replaceAll('-', '')}`;
  return { name, day, from: firstIdOf(day), to: firstIdOf(new Date(day.getTime() + DAY_MS)) };
}

/** No id of this moment is less. Ids are UUIDs of version 7, which begin with 48 bits of milliseconds (RFC 9562). */
export function firstIdOf(moment: Date): string {
  const hex = Math.max(0, moment.getTime()).toString(16).padStart(12, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8)}-0000-0000-000000000000`;
}

/** The day that a partition is named by. */
export function dayOf(name: string): Date {
  const [, year, month, day] = /(\d{4})(\d\d)(\d\d)$/.exec(name) ?? [];
  return new Date(`${year}-${month}-${day}T00:00:00Z`);
}
