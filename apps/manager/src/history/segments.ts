import type { HistoryConfig } from '#libs/config/config.js';

/** Calls with what is kept beside them, and what they add up to. */
export const FAMILIES = ['calls', 'minutes'] as const;
export type Family = (typeof FAMILIES)[number];

/** The tables of a family, of which each segment has a partition. */
export const TABLES: Readonly<Record<Family, readonly string[]>> = {
  calls: ['calls', 'call_payloads'],
  minutes: ['call_minutes'],
};

/** One part of the history. Only the newest of its family is written to; it goes whole. */
export interface Segment {
  readonly family: Family;
  readonly number: number;
  /** Calls. */
  readonly rows: number;
  readonly bytes: number;
  readonly openedAt: Date;
  /** Null: it is the newest. */
  readonly closedAt: Date | null;
}

/** What is to be done. */
export interface SegmentPlan {
  /** Families whose newest segment is large or old enough. */
  readonly open: readonly Family[];
  readonly drop: readonly Segment[];
  /** What is left once these are dropped is all that may be kept. */
  readonly isFull: (dropped: readonly Segment[]) => boolean;
}

/** Segments are so small a part of what may be kept that what goes with the oldest is missed by nobody. */
const PARTS = 10;
/** Their age is so small a part of the time that calls are kept. */
const AGES = 14;
/** What sums by the minute may take of all bytes. */
const SHARE_OF_MINUTES = 1 / 4;

/**
 * Keeps the history in its bounds. With room for one more segment beside those that are kept there is never more than
 * may be, but for what is written between two looks.
 */
export function planOf(
  segments: readonly Segment[],
  { retentionMs, mostRows, mostBytes }: Pick<HistoryConfig, 'retentionMs' | 'mostRows' | 'mostBytes'>,
  now: number,
): SegmentPlan {
  const of = (wanted: Family) =>
    segments.filter(({ family }) => family === wanted).toSorted((a, b) => a.number - b.number);
  const minutesBytes = Math.floor(mostBytes * SHARE_OF_MINUTES);
  const bounds: Record<Family, { readonly rows: number; readonly bytes: number }> = {
    calls: { rows: mostRows, bytes: mostBytes - Math.min(minutesBytes, bytesOf(of('minutes'))) },
    minutes: { rows: Infinity, bytes: minutesBytes },
  };
  const open: Family[] = [];
  const drop: Segment[] = [];
  for (const family of FAMILIES) {
    const all = of(family);
    const newest = all.at(-1);
    if (newest === undefined) continue;
    const { rows, bytes } = bounds[family];
    const isOld = now - newest.openedAt.getTime() >= retentionMs / AGES && !(family === 'calls' && newest.rows === 0);
    if (newest.rows >= rows / PARTS || newest.bytes >= bytes / PARTS || isOld) open.push(family);
    const kept = all.slice(0, -1);
    const spare = (PARTS - 1) / PARTS;
    while (kept.length > 0) {
      const [oldest] = kept as [Segment];
      const isOver = now - (oldest.closedAt?.getTime() ?? now) >= retentionMs;
      // One that is closed now has its successor beside it.
      const opens = open.includes(family);
      const hasRoom =
        rowsOf(kept) + (opens ? newest.rows : Math.max(0, newest.rows - rows / PARTS)) <= rows * spare &&
        bytesOf(kept) + (opens ? newest.bytes : Math.max(0, newest.bytes - bytes / PARTS)) <= bytes * spare;
      if (!isOver && hasRoom) break;
      drop.push(oldest);
      kept.shift();
    }
  }
  const isFull = (dropped: readonly Segment[]) => {
    const left = of('calls').filter((segment) => !dropped.includes(segment));
    return rowsOf(left) >= mostRows || bytesOf(left) >= bounds.calls.bytes;
  };
  return { open, drop, isFull };
}

function rowsOf(segments: readonly Segment[]): number {
  return segments.reduce((sum, { rows }) => sum + rows, 0);
}

function bytesOf(segments: readonly Segment[]): number {
  return segments.reduce((sum, { bytes }) => sum + bytes, 0);
}
