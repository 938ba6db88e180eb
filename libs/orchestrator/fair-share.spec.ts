import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FairShare } from './fair-share.js';

const TARGET = 40;

describe('waiting workers for functions that want more replicas', () => {
  let share: FairShare;
  let ready: number;
  beforeEach(() => {
    vi.useFakeTimers();
    share = new FairShare();
    ready = TARGET;
  });
  afterEach(() => vi.useRealTimers());

  function take(functionId: string, most: number): number {
    let taken = 0;
    while (taken < most && share.grant(functionId, ready, TARGET)) {
      taken += 1;
      ready -= 1;
    }
    return taken;
  }

  it('are shared evenly by two that come one after the other', () => {
    expect([take('one', 100), take('two', 100)]).toEqual([15, 15]);
  });

  it('stay for functions that have none, a quarter of them', () => {
    for (const functionId of ['one', 'two', 'three', 'four']) take(functionId, 100);
    expect(ready).toBe(10);
  });

  it('go to a third one as soon as others have come up', () => {
    take('one', 100);
    take('two', 100);
    ready += 12;
    expect([take('three', 100), take('one', 100)]).toEqual([12, 0]);
  });

  it('are given again to who had its share a while ago', () => {
    take('one', 100);
    ready = TARGET;
    vi.advanceTimersByTime(20_000);
    expect(take('one', 100)).toBe(15);
  });

  it('of a pool of two give one to a scale-up', () => {
    ready = 2;
    expect([share.grant('one', 2, 2), share.grant('one', 1, 2), share.grant('two', 1, 2)]).toEqual([
      true,
      false,
      false,
    ]);
  });
});
