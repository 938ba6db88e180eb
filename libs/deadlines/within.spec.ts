import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { DeadlinePassed, within } from './within.js';

const never = () => new Promise<never>(() => undefined);

describe('a wait with a deadline', () => {
  it('settles as the work does', async () => {
    expect(await within('it', { ms: 10_000 }, () => Promise.resolve(1))).toBe(1);
    await expect(within('it', { ms: 10_000 }, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    const thrown = within('it', { ms: 10_000 }, () => {
      throw new Error('at once');
    });
    await expect(thrown).rejects.toThrow('at once');
  });

  it('ends by its own timer, whatever the work does with its signal', async () => {
    await expect(within('A step', { ms: 20 }, never)).rejects.toThrow('A step took longer than 20 ms');
    await expect(within('A step', { ms: 20 }, never)).rejects.toBeInstanceOf(DeadlinePassed);
  });

  it('tells the work that its time is over, and lets it put things in order', async () => {
    const tidied = vi.fn();
    const work = async (signal: AbortSignal) => {
      await delay(60_000, undefined, { signal }).catch(() => undefined);
      await delay(20);
      tidied();
      throw signal.reason;
    };
    await expect(within('it', { ms: 20, graceMs: 10_000 }, work)).rejects.toBeInstanceOf(DeadlinePassed);
    expect(tidied).toHaveBeenCalledOnce();
  });

  it('ends when its caller gives up, after the grace at the latest', async () => {
    const reason = new Error('I leave');
    const leaving = new AbortController();
    const waiting = within('it', { graceMs: 20, signal: leaving.signal }, never);
    leaving.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    await expect(within('it', { ms: 10_000, signal: leaving.signal }, never)).rejects.toBe(reason);
  });

  it('leaves no timer and no listener behind', async () => {
    vi.useFakeTimers();
    try {
      const { signal } = new AbortController();
      const remove = vi.spyOn(signal, 'removeEventListener');
      await within('it', { ms: 10_000, signal }, () => Promise.resolve());
      expect(vi.getTimerCount()).toBe(0);
      expect(remove).toHaveBeenCalledOnce();
    } finally {
      vi.useRealTimers();
    }
  });
});
