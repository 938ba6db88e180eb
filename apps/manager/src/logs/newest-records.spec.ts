import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { LogRecordDto } from './dto/log-record.dto.js';
import { NewestRecords } from './newest-records.js';

function record(at: number, line = String(at)): LogRecordDto {
  const time = String(at).padStart(6, '0');
  return { time, replica: 'r', revision: 1, source: 'handler', stream: 'stdout', request_id: null, line };
}

it('gives the newest of all, in the order of their times', () => {
  const times = fc.array(fc.nat({ max: 9_999 }), { maxLength: 60 });
  fc.assert(
    fc.property(times, times, fc.nat({ max: 80 }), (earlier, later, tail) => {
      const newest = new NewestRecords(tail, () => undefined);
      for (const at of later.toSorted((a, b) => a - b)) newest.add(record(at));
      const sorted = [...earlier, ...later].toSorted((a, b) => a - b);
      const { records, missed } = newest.with(earlier.toSorted((a, b) => a - b).map((at) => record(at)));
      expect(records.map(({ time }) => Number(time))).toEqual(tail === 0 ? [] : sorted.slice(-tail));
      expect(missed).toBe(0);
    }),
  );
});

it('keeps what there is room for, and says how many of those asked for it left out', () => {
  let held = 0;
  const newest = new NewestRecords(500, (characters) => (held += characters));
  for (let at = 0; at < 5_000; at += 1) newest.add(record(at, 'x'.repeat(64 * 1024)));
  const { records, missed } = newest.with([]);
  expect(records.at(-1)?.time).toBe('004999');
  expect(records.length + missed).toBe(500);
  expect(missed).toBeGreaterThan(400);
  expect(held).toBeLessThan(5 * 1024 * 1024);
});
