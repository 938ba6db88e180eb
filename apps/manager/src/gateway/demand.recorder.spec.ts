import { loadConfig } from '#libs/config/load-config.js';
import type { PinoLogger } from 'nestjs-pino';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Demand, DemandRepository } from '../scaling/demand.repository.js';
import { Cancellation } from './cancellation.js';
import { DemandRecorder } from './demand.recorder.js';
import { Connections } from './connections.js';
import { CallCancelled } from './errors.js';
import type { Route, Router } from './router.js';
import { FunctionShare } from '../memory/memory-budget.js';
import { ServiceTime } from './service-time.js';
import { SlotPool } from './slot-pool.js';
import { OpenStreams } from './worker-client.js';

const ID = 'aaaaaaaaaaaaaaaa';

let touched: number;
let written: Demand[];
let route: Route;
let isThere: boolean;
let recorder: DemandRecorder;
const cancellation = new Cancellation();

beforeEach(() => {
  vi.useFakeTimers();
  [touched, written] = [0, []];
  isThere = true;
  route = {
    id: ID,
    pool: new SlotPool(2, 100, {
      connectionsTo: ({ address }) => new Connections(address, { guard: 'worker' }),
      onDraining: () => undefined,
    }),
    serviceTime: new ServiceTime(),
    share: new FunctionShare(),
    streams: new OpenStreams(),
    timeoutMs: 60_000,
    concurrency: 2,
    refusal: undefined,
    leaving: false,
    lastUsed: Date.now(),
    sleeps: true,
    idleTimeoutMs: 1_000,
    isFixed: false,
    published: [],
    name: null,
    isDisabled: false,
    isPublic: false,
    invocationDefaults: {},
    history: {},
    workloadOf: null,
    isRun: false,
    split: undefined,
    revision: 1,
  };
  const demands: Pick<DemandRepository, 'touch' | 'record'> = {
    touch: () => Promise.resolve(void (touched += 1)),
    record: (demand) => Promise.resolve(void written.push(...demand)),
  };
  recorder = new DemandRecorder(
    { known: () => (isThere ? [route] : []).values(), has: () => isThere } as unknown as Router,
    demands as DemandRepository,
    loadConfig({}).scale,
    pino({ level: 'silent' }) as unknown as PinoLogger,
  );
  recorder.onApplicationBootstrap();
});
afterEach(() => {
  recorder.onApplicationShutdown();
  route.pool.close(new CallCancelled());
  vi.useRealTimers();
});

function call(): void {
  route.lastUsed = Date.now();
  const slot = Promise.resolve(
    route.pool.acquire({ waitMs: 60_000, cancellation, refused: () => new CallCancelled() }),
  );
  slot.catch(() => undefined);
}

describe('Calls of a function without replicas', () => {
  it('write nothing while its first replica comes: the wake has noted the use', async () => {
    for (let calls = 0; calls < 5; calls += 1) call();
    await vi.advanceTimersByTimeAsync(250);
    expect([touched, written]).toEqual([0, []]);
  });

  it('keep it from falling asleep when that takes longer than its idle time', async () => {
    call();
    route.sleeps = false;
    await vi.advanceTimersByTimeAsync(3_000);
    expect(touched).toBeGreaterThanOrEqual(8);
    expect(written).toEqual([]);
  });

  it('are forgotten when it is removed', async () => {
    route.sleeps = false;
    route.pool.update([{ replica: 'one', address: { kind: 'unix', path: '/nowhere' } }], 2);
    const slot = await route.pool.acquire({ waitMs: 60_000, cancellation, refused: () => new CallCancelled() });
    await vi.advanceTimersByTimeAsync(3_000);
    slot[Symbol.dispose]();
    expect(written.length).toBeGreaterThan(0);
    isThere = false;
    await vi.advanceTimersByTimeAsync(250);
    route.lastUsed = 0;
    [isThere, written] = [true, []];
    await vi.advanceTimersByTimeAsync(3_000);
    expect(written).toEqual([]);
  });
});
