import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Deadlines, type Expiring } from './deadlines.js';

describe('Deadlines', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  const expired: string[] = [];
  const inMs = (name: string, ms: number): Expiring => ({
    expiresAt: performance.now() + ms,
    expire: () => void expired.push(name),
  });
  beforeEach(() => void expired.splice(0));

  it('expires what is still open at its own moment, whatever the order it came in', () => {
    const deadlines = new Deadlines();
    for (const [name, ms] of [
      ['late', 500],
      ['early', 100],
      ['between', 300],
    ] as const)
      deadlines.add(inMs(name, ms));
    const ended = inMs('ended', 200);
    deadlines.add(ended);
    vi.advanceTimersByTime(99);
    expect(expired).toEqual([]);
    vi.advanceTimersByTime(2);
    expect(expired).toEqual(['early']);
    deadlines.delete(ended);
    vi.advanceTimersByTime(200);
    expect(expired).toEqual(['early', 'between']);
    vi.advanceTimersByTime(1_000);
    expect(expired).toEqual(['early', 'between', 'late']);
  });

  it('sets one timer for any number of calls that end in time', () => {
    const deadlines = new Deadlines();
    for (let call = 0; call < 100; call += 1) {
      const expiring = inMs(`${call}`, 1_000);
      deadlines.add(expiring);
      deadlines.delete(expiring);
      vi.advanceTimersByTime(5);
      expect(vi.getTimerCount()).toBe(1);
    }
    vi.advanceTimersByTime(1_000);
    expect(vi.getTimerCount()).toBe(0);
    expect(expired).toEqual([]);
  });

  it('takes what is added while another expires', () => {
    const deadlines = new Deadlines();
    deadlines.add({ expiresAt: performance.now() + 10, expire: () => deadlines.add(inMs('next', 10)) });
    vi.advanceTimersByTime(11);
    vi.advanceTimersByTime(11);
    expect(expired).toEqual(['next']);
  });
});
