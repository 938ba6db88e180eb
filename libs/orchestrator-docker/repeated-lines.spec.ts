import type { PlainLine } from '#libs/orchestrator/replica-log.js';
import { describe, expect, it } from 'vitest';
import { RepeatedLines } from './repeated-lines.js';

const at = (second: number, nanosecond: number, stream: 'stdout' | 'stderr' = 'stdout'): PlainLine => ({
  time: `2026-01-02T03:04:${String(second).padStart(2, '0')}.${String(nanosecond).padStart(9, '0')}Z`,
  stream,
  text: `${second} ${nanosecond}`,
});
const kept = (lines: readonly PlainLine[]) => {
  const repeated = new RepeatedLines();
  return lines.filter((line) => !repeated.has(line));
};

describe('Lines that the engine sends again', () => {
  const many = Array.from({ length: 3_000 }, (_, index) => at(5, index));

  it('count once, whatever follows them', () => {
    const others = [at(6, 1), at(6, 2)];
    const again = [...many, ...many.slice(-2_500), ...others, ...others, ...others.slice(-1)];
    expect(kept(again)).toEqual([...many, ...others]);
  });

  it('are sought in their own stream', () => {
    const lines = [at(5, 2), at(5, 1, 'stderr'), at(5, 2, 'stderr'), at(5, 3)];
    expect(kept(lines)).toEqual(lines);
  });

  it('are not those of the same moment, nor those after the clock was set back', () => {
    const lines = [at(5, 1), { ...at(5, 1), text: 'other' }, at(9, 1), at(2, 7), at(2, 8), at(2, 9), at(9, 2)];
    expect(kept(lines)).toEqual(lines);
  });
});
