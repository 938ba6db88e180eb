import { expect, it } from 'vitest';
import { familyOf, isSame, parseStat, type ProcessEntry, processTable } from './process-table.js';

const entry = (pid: number, parent: number): ProcessEntry => ({
  pid,
  parent,
  group: pid,
  uid: 0,
  startTime: '1',
  words: [],
});

it('reads a process whose name holds spaces and parentheses', () => {
  const fields = ['S', '7', '42', '42', ...Array.from({ length: 15 }, () => '0'), '987654', '0'];
  const stat = parseStat(`42 (a) (b c) ${fields.join(' ')}`);
  expect(stat).toEqual({ state: 'S', parent: 7, group: 42, startTime: '987654' });
});

it('finds descendants over several generations and nobody else', () => {
  const entries = [entry(4, 3), entry(1, 0), entry(2, 1), entry(3, 2), entry(9, 1)];
  expect(familyOf(entries, 2).map(({ pid }) => pid)).toEqual([2, 3, 4]);
});

it.each([process.platform, 'darwin'] as const)('knows this very process as %s does', async (platform) => {
  const table = processTable(platform);
  const self = (await table.read()).find(({ pid }) => pid === process.pid);
  expect(self).toMatchObject({ parent: process.ppid, uid: process.getuid?.() });
  expect(isSame(await table.find(process.pid), self)).toBe(true);
  expect(await table.find(2 ** 22 + 1)).toBeUndefined();
});
