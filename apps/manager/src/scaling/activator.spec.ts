import { Metrics } from '#libs/observability/metrics.js';
import type { PinoLogger } from 'nestjs-pino';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FunctionBus } from '../functions/function-bus.js';
import type { FunctionEntity } from '../functions/function.entity.js';
import type { FunctionRepository } from '../functions/function.repository.js';
import { InlineReconciler, StepSlots } from '../functions/inline-reconciler.js';
import { Activator } from './activator.js';
import type { DemandRepository } from './demand.repository.js';

const ID = 'aaaaaaaaaaaaaaaa';
const row = { id: ID, leaseToken: null } as FunctionEntity;

let wakes: number;
let isAway: boolean;
let sleeper: { readonly id: string; sleeps: boolean; readonly pool: { waiting: number } };
let activator: Activator;

beforeEach(() => {
  vi.useFakeTimers();
  [wakes, isAway] = [0, false];
  sleeper = { id: ID, sleeps: true, pool: { waiting: 1 } };
  const repository = { release: () => Promise.resolve() } as unknown as FunctionRepository;
  const config = { concurrency: 1, leaseMs: 1_000 };
  const wake = () => {
    wakes += 1;
    return isAway ? Promise.reject(new Error('away')) : Promise.resolve(wakes === 1 ? { row } : undefined);
  };
  activator = new Activator(
    new InlineReconciler(repository, new StepSlots(config), new FunctionBus(), config),
    { wake } as unknown as DemandRepository,
    new Metrics(),
    pino({ level: 'silent' }) as unknown as PinoLogger,
  );
});
afterEach(() => void vi.useRealTimers());

describe('Activator', () => {
  it('writes one wake however many calls ask at once', async () => {
    for (let calls = 0; calls < 5; calls += 1) activator.wake(sleeper);
    sleeper.sleeps = false;
    await vi.advanceTimersByTimeAsync(5_000);
    expect(wakes).toBe(1);
  });

  it('asks again each second while calls wait and the function sleeps on', async () => {
    activator.wake(sleeper);
    await vi.advanceTimersByTimeAsync(3_500);
    expect(wakes).toBe(4);
    sleeper.pool.waiting = 0;
    await vi.advanceTimersByTimeAsync(5_000);
    expect(wakes).toBe(4);
  });

  it('asks again sooner when the wake could not be written', async () => {
    isAway = true;
    activator.wake(sleeper);
    await vi.advanceTimersByTimeAsync(600);
    expect(wakes).toBe(3);
  });

  it('wakes a function again that fell asleep after its wake', async () => {
    activator.wake(sleeper);
    sleeper.sleeps = false;
    await vi.advanceTimersByTimeAsync(1_000);
    sleeper.sleeps = true;
    activator.wake(sleeper);
    await vi.advanceTimersByTimeAsync(10);
    expect(wakes).toBe(2);
  });
});
