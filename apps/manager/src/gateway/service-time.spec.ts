import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ServiceTime } from './service-time.js';

function observed(...durations: readonly number[]): ServiceTime {
  const time = new ServiceTime();
  for (const ms of durations) time.note(ms);
  return time;
}

describe('ServiceTime', () => {
  it.each([
    { ms: 1_000, waiting: 8, slots: 2, seconds: 4 },
    { ms: 500, waiting: 5, slots: 1, seconds: 3 },
    { ms: 2, waiting: 256, slots: 32, seconds: 1 },
    { ms: 30_000, waiting: 256, slots: 1, seconds: 60 },
    { ms: 3_000, waiting: 0, slots: 1, seconds: 1 },
    { ms: 3_000, waiting: 4, slots: 0, seconds: 12 },
  ])('tells $seconds s when $waiting wait for $slots slots of $ms ms', ({ ms, waiting, slots, seconds }) => {
    expect(observed(ms).retryAfterSeconds(waiting, slots)).toBe(seconds);
  });

  it('returns the least time before any call has ended', () => {
    expect(new ServiceTime().retryAfterSeconds(1_000, 1)).toBe(1);
  });

  it('follows the time that recent calls take', () => {
    const time = observed(10_000);
    for (let call = 0; call < 100; call += 1) time.note(100);
    expect(time.retryAfterSeconds(100, 1)).toBe(11);
  });

  it('always tells a whole number of seconds from 1 to 60', () => {
    const positive = fc.double({ min: 0, max: 1e9, noNaN: true });
    fc.assert(
      fc.property(fc.array(positive), fc.nat(), fc.nat(), (durations, waiting, slots) => {
        const seconds = observed(...durations).retryAfterSeconds(waiting, slots);
        expect(Number.isInteger(seconds) && seconds >= 1 && seconds <= 60).toBe(true);
      }),
    );
  });
});
