import { expect, it } from 'vitest';
import { uidRangeIn } from './isolation.js';
import { LogMarks } from './log-marks.js';
import { familyOf, parseStat, type ProcessEntry, processTable } from './process-table.js';

const entry = (pid: number, parent: number): ProcessEntry => ({ pid, parent, group: pid, uid: 0, startTime: '1' });

it('reads a process whose name holds spaces and parentheses', () => {
  const fields = ['S', '7', '42', '42', ...Array.from({ length: 15 }, () => '0'), '987654', '0'];
  expect(parseStat(`42 (a) (b c) ${fields.join(' ')}`)).toEqual({
    state: 'S',
    parent: 7,
    group: 42,
    startTime: '987654',
  });
});

it('finds descendants over several generations and nobody else', () => {
  const entries = [entry(4, 3), entry(1, 0), entry(2, 1), entry(3, 2), entry(9, 1)];
  expect(familyOf(entries, 2).map(({ pid }) => pid)).toEqual([2, 3, 4]);
});

it.each([process.platform, 'darwin'] as const)('knows this very process as %s does', async (platform) => {
  const table = processTable(platform);
  const self = (await table.read()).find(({ pid }) => pid === process.pid);
  expect(self).toMatchObject({ parent: process.ppid, uid: process.getuid?.() });
  expect(await table.startTime(process.pid)).toBe(self?.startTime);
  expect(await table.startTime(2 ** 22 + 1)).toBeUndefined();
});

it('takes the first range of uids that is mapped whole', () => {
  expect(uidRangeIn('         0          0 4294967295')?.first).toBe(1_900_000_000);
  expect(uidRangeIn('0 100000 1000000')?.first).toBe(200_000);
  expect(uidRangeIn('0 1000 1\n1 100000 65536')?.first).toBe(30_000);
  expect(uidRangeIn('0 1000 1')).toBeUndefined();
});

it('dates a line by the first time the log was known to hold it', () => {
  const marks = new LogMarks();
  marks.note(100, 1_000);
  marks.note(200, 2_000);
  expect([marks.timeOf(50), marks.timeOf(100), marks.timeOf(101), marks.timeOf(201)]).toEqual([
    1_000,
    1_000,
    2_000,
    undefined,
  ]);
  marks.note(10, 3_000);
  expect(marks.timeOf(5)).toBe(3_000);
});
