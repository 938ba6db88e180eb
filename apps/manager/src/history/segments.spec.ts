import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { planOf, type Segment } from './segments.js';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const BOUNDS = { retentionMs: 7 * DAY_MS, mostRows: 1_000, mostBytes: 1_000_000 };
const NOW = 1_000 * DAY_MS;

function segment(
  number: number,
  { ageMs = 0, closedMs, ...rest }: Partial<Segment> & { ageMs?: number; closedMs?: number } = {},
): Segment {
  return {
    family: 'calls',
    number,
    rows: 1,
    bytes: 1_000,
    openedAt: new Date(NOW - ageMs),
    closedAt: closedMs === undefined ? null : new Date(NOW - closedMs),
    ...rest,
  };
}

const numbers = (segments: readonly Segment[]) => segments.map(({ number }) => number);

describe('the segments of the history', () => {
  it('are followed by others when they are large or old enough', () => {
    expect(planOf([segment(1)], BOUNDS, NOW)).toMatchObject({ open: [], drop: [] });
    expect(planOf([segment(1, { rows: 100 })], BOUNDS, NOW).open).toEqual(['calls']);
    expect(planOf([segment(1, { bytes: 100_000 })], BOUNDS, NOW).open).toEqual(['calls']);
    expect(planOf([segment(1, { ageMs: 12 * HOUR_MS })], BOUNDS, NOW).open).toEqual(['calls']);
    expect(planOf([segment(1, { ageMs: 12 * HOUR_MS, rows: 0 })], BOUNDS, NOW).open).toEqual([]);
    expect(planOf([segment(1, { family: 'minutes', ageMs: 12 * HOUR_MS })], BOUNDS, NOW).open).toEqual(['minutes']);
  });

  it('go when the time of their last call is over', () => {
    const old = [segment(1, { closedMs: 7 * DAY_MS }), segment(2, { closedMs: 7 * DAY_MS - 1 }), segment(3)];
    expect(numbers(planOf(old, BOUNDS, NOW).drop)).toEqual([1]);
    const alone = planOf([segment(3, { ageMs: 30 * DAY_MS })], BOUNDS, NOW);
    expect(alone).toMatchObject({ open: ['calls'], drop: [] });
  });

  it('go, the oldest first, for as many calls or bytes as are too many', () => {
    const full = [1, 2, 3, 4].map((number) => segment(number, { rows: 300, closedMs: HOUR_MS }));
    expect(numbers(planOf([...full, segment(5)], BOUNDS, NOW).drop)).toEqual([1]);
    const heavy = full.map((one) => ({ ...one, rows: 1, bytes: 450_000 }));
    expect(numbers(planOf([...heavy, segment(5)], BOUNDS, NOW).drop)).toEqual([1, 2]);
  });

  it('leave sums by the minute a part of the bytes, and calls the rest', () => {
    const minutes = [1, 2].map((number) => segment(number, { family: 'minutes', bytes: 150_000, closedMs: HOUR_MS }));
    const plan = planOf([...minutes, segment(3, { family: 'minutes' }), segment(1, { bytes: 800_000 })], BOUNDS, NOW);
    expect(plan.drop).toEqual([minutes[0]]);
    expect(plan.open).toEqual(['calls']);
    expect(plan.isFull(plan.drop)).toBe(true);
  });

  it('are all that may be kept where the oldest could not go', () => {
    const full = [1, 2, 3, 4].map((number) => segment(number, { rows: 300, closedMs: HOUR_MS }));
    const { drop, isFull } = planOf([...full, segment(5)], BOUNDS, NOW);
    expect(isFull([])).toBe(true);
    expect(isFull(drop)).toBe(false);
  });

  it('never have more calls than may be, however they come', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 100 }), { maxLength: 100 }), (batches) => {
        let all = [segment(1, { rows: 0 })];
        for (const batch of batches) {
          all = all.map((one) => (one.closedAt === null ? { ...one, rows: one.rows + batch } : one));
          const { open, drop } = planOf(all, BOUNDS, NOW);
          const next = Math.max(...numbers(all)) + 1;
          if (open.length > 0) {
            all = [
              ...all.map((one) => ({ ...one, closedAt: one.closedAt ?? new Date(NOW) })),
              segment(next, { rows: 0 }),
            ];
          }
          all = all.filter((one) => !numbers(drop).includes(one.number));
          // What came since the last look, at most.
          expect(all.reduce((sum, { rows }) => sum + rows, 0)).toBeLessThanOrEqual(BOUNDS.mostRows);
        }
      }),
    );
  });
});
