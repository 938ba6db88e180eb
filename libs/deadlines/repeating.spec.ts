import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Repeating } from './repeating.js';

describe('Repeating', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it.each([
    ['now', 3],
    ['later', 2],
  ] as const)('does its work first %s, then after each interval', async (first, times) => {
    const work = vi.fn(() => Promise.resolve());
    const repeating = new Repeating(100, work);
    repeating.start(first);
    await vi.advanceTimersByTimeAsync(250);
    expect(work).toHaveBeenCalledTimes(times);
    await repeating.stop();
    await vi.advanceTimersByTimeAsync(250);
    expect(work).toHaveBeenCalledTimes(times);
  });

  it('never does it twice at once, and waits for its end', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const work = vi.fn((signal: AbortSignal) => promise.then(() => expect(signal.aborted).toBe(true)));
    const repeating = new Repeating(100, work);
    repeating.start('now');
    await vi.advanceTimersByTimeAsync(1_000);
    expect(work).toHaveBeenCalledOnce();
    const stopped = vi.fn();
    const stopping = repeating.stop().then(stopped);
    await vi.advanceTimersByTimeAsync(10);
    expect(stopped).not.toHaveBeenCalled();
    resolve();
    await stopping;
  });
});
