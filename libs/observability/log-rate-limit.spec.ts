import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type LeftOut, LogRateLimit } from './log-rate-limit.js';

describe('LogRateLimit', () => {
  let summaries: LeftOut[];
  let lines: LogRateLimit;
  beforeEach(() => {
    vi.useFakeTimers();
    summaries = [];
    lines = new LogRateLimit({ perClient: 2, inAll: 5 }, (leftOut) => summaries.push(leftOut));
  });
  afterEach(() => vi.useRealTimers());

  const admitted = (client: string, count: number) =>
    Array.from({ length: count }, () => lines.admits(client)).filter(Boolean).length;

  it('admits a few lines of each client, and a few in all', () => {
    expect(admitted('a', 10)).toBe(2);
    expect(admitted('b', 10)).toBe(2);
    expect(admitted('c', 10)).toBe(1);
    expect(admitted('d', 10)).toBe(0);
  });

  it('sums up after a minute what it left out, and begins anew', () => {
    admitted('a', 3);
    admitted('b', 12);
    vi.advanceTimersByTime(60_000);
    expect(summaries).toEqual([
      {
        lines: 11,
        clients: [
          { client: 'b', lines: 10 },
          { client: 'a', lines: 1 },
        ],
      },
    ]);
    expect(admitted('a', 3)).toBe(2);
  });

  it('says nothing where nothing was left out', () => {
    admitted('a', 2);
    vi.advanceTimersByTime(60_000);
    expect(summaries).toEqual([]);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('sums up before its time where it ends', () => {
    admitted('a', 3);
    lines.end();
    expect(summaries).toEqual([{ lines: 1, clients: [{ client: 'a', lines: 1 }] }]);
    expect(vi.getTimerCount()).toBe(0);
  });
});
