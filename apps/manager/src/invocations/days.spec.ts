import { randomUUIDv7 } from 'node:crypto';
import { expect, it } from 'vitest';
import { DAY_MS, dayOf, FIRST_ID, firstIdOf, partitionOf } from './days.js';

it('puts an id into the partition of the day on which it was made', () => {
  const id = randomUUIDv7();
  const { from, to, name } = partitionOf(new Date());
  expect(from <= id && id < to).toBe(true);
  expect(dayOf(name).getTime()).toBe(Math.floor(Date.now() / DAY_MS) * DAY_MS);
});

it('names partitions by day, one beginning where the other ends', () => {
  const [last, next] = [new Date('2026-02-28T23:59:59.999Z'), new Date('2026-03-01T00:00:00Z')].map(partitionOf);
  expect([last!.name, next!.name]).toEqual(['invocations_20260228', 'invocations_20260301']);
  expect(last!.to).toBe(next!.from);
  for (const moment of [0, -1, -1e15]) expect(firstIdOf(new Date(moment))).toBe(FIRST_ID);
});
