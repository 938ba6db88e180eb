import { EventEmitter } from 'node:events';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Attempts } from './attempts.js';

describe('Attempts', () => {
  let attempts: Attempts;
  beforeEach(() => {
    vi.useFakeTimers();
    attempts = new Attempts();
  });
  afterEach(() => vi.useRealTimers());

  /** Whether the answer to one more wrong key is due, as it is now. */
  function attempt(client = '192.0.2.1', response = new EventEmitter()) {
    const made = attempts.delay(client, response);
    if (!made.isHeld) throw new Error('It was refused.');
    const state = { isDue: false, response };
    void made.over.then(() => (state.isDue = true));
    return state;
  }

  async function delayOf(client?: string): Promise<number> {
    const began = performance.now();
    const one = attempt(client);
    while (!one.isDue) await vi.advanceTimersByTimeAsync(100);
    return performance.now() - began;
  }

  async function delaysOf(count: number, client?: string): Promise<number[]> {
    const delays = [];
    for (let each = 0; each < count; each += 1) delays.push(await delayOf(client));
    return delays;
  }

  it('doubles the delay with every wrong key, up to a bound', async () => {
    expect(await delaysOf(8)).toEqual([100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
  });

  it('counts each client for itself', async () => {
    await delaysOf(5, '192.0.2.1');
    expect(await delayOf('192.0.2.2')).toBe(100);
  });

  it('forgets one wrong key after the other', async () => {
    await delaysOf(4);
    await vi.advanceTimersByTimeAsync(61_000);
    expect(await delayOf()).toBe(400);
    await vi.advanceTimersByTimeAsync(600_000);
    expect(await delayOf()).toBe(100);
  });

  it('forgets wrong keys soon, however many there were', async () => {
    await delaysOf(30);
    await vi.advanceTimersByTimeAsync(7 * 30_000);
    expect(await delayOf()).toBe(100);
  });

  it('delays a few answers of one client, and refuses further ones at once with a time to come back', async () => {
    const held = Array.from({ length: 4 }, () => attempt());
    const beyond = attempts.delay('192.0.2.1', new EventEmitter());
    expect(beyond).toEqual({ isHeld: false, retryAfterSeconds: 2 });
    expect(attempt('192.0.2.2')).toMatchObject({ isDue: false });
    await vi.advanceTimersByTimeAsync(100);
    expect(held.map(({ isDue }) => isDue)).toEqual([true, false, false, false]);
    expect(attempts.delay('192.0.2.1', new EventEmitter()).isHeld).toBe(true);
  });

  it('delays no more answers than its limit, whoever the clients are', () => {
    const made = Array.from({ length: 300 }, (_, index) => attempts.delay(`192.0.2.${index}`, new EventEmitter()));
    expect(made.filter(({ isHeld }) => isHeld)).toHaveLength(256);
    expect(vi.getTimerCount()).toBe(256);
  });

  it('remembers no more clients than it has room for', async () => {
    await delaysOf(5, 'first');
    for (let index = 0; index < 4_096; index += 1) attempts.delay(`client-${index}`, new EventEmitter());
    await vi.advanceTimersByTimeAsync(5_000);
    expect(await delayOf('first')).toBe(100);
  });

  it('gives the place of a closed connection back, with its timer', async () => {
    const gone = attempt();
    gone.response.emit('close');
    await vi.advanceTimersByTimeAsync(0);
    expect(gone.isDue).toBe(true);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('answers at once when the manager shuts down, and delays no answer from then on', async () => {
    const held = [attempt(), attempt(), attempt('192.0.2.2')];
    attempts.release();
    await vi.advanceTimersByTimeAsync(0);
    expect(held.map(({ isDue }) => isDue)).toEqual([true, true, true]);
    expect(vi.getTimerCount()).toBe(0);
    expect(attempts.delay('192.0.2.3', new EventEmitter()).isHeld).toBe(false);
  });
});
