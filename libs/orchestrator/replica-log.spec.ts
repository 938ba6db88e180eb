import fc from 'fast-check';
import { expect, it } from 'vitest';
import { LineSplitter, LONGEST_LINE, nextTime, timeAt, timeOf } from './replica-log.js';

it.each([
  ['2026-01-02T03:04:05Z', '2026-01-02T03:04:05.000000000Z'],
  ['2026-01-02T03:04:05.12z', '2026-01-02T03:04:05.120000000Z'],
  ['2026-01-02T03:04:05.1234567891+02:00', '2026-01-02T01:04:05.123456789Z'],
  ['yesterday', undefined],
  ['2026-13-02T03:04:05Z', undefined],
  ['2026-01-02', undefined],
])('reads the time %s as %s', (text, time) => {
  expect(timeOf(text)).toBe(time);
});

it('writes times that compare as texts, to the nanosecond', () => {
  const at = timeAt(new Date(1_700_000_000_123), 45);
  expect(at).toBe('2023-11-14T22:13:20.123000045Z');
  expect(nextTime(at) > at).toBe(true);
  expect(timeOf(at)).toBe(at);
});

it('splits lines the same however the bytes are cut', () => {
  const bytes = Buffer.from('grüße\n\n💥 boom\nno end');
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: bytes.length }), { maxLength: 6 }), (cuts) => {
      const splitter = new LineSplitter();
      const edges = [0, ...cuts.toSorted((a, b) => a - b), bytes.length];
      const lines = edges.slice(1).flatMap((end, index) => splitter.push(bytes.subarray(edges[index], end)));
      expect([...lines, ...splitter.flush()]).toEqual(['grüße', '', '💥 boom', 'no end']);
    }),
  );
});

it('holds no more of a line without an end than it shows', () => {
  const splitter = new LineSplitter();
  for (let sent = 0; sent < 160; sent += 1) expect(splitter.push(Buffer.alloc(LONGEST_LINE, 'x'))).toEqual([]);
  const [line, after] = splitter.push(Buffer.from('\nafter\n'));
  expect(line).toBe(`${'x'.repeat(LONGEST_LINE)} … [${159 * LONGEST_LINE} characters cut]`);
  expect(after).toBe('after');
});
