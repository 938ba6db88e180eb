import { Notifications } from '#libs/database/notifications.js';
import { MemoryOrchestrator } from '#libs/orchestrator/testing/memory.orchestrator.js';
import { TEST_TOKENS } from '#libs/orchestrator/testing/tokens.js';
import type { Endpoint } from '#libs/orchestrator/workload.js';
import type { PinoLogger } from 'nestjs-pino';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadConfig } from '#libs/config/load-config.js';
import { FunctionBus } from '../functions/function-bus.js';
import { FunctionChanges } from '../functions/function-changes.js';
import { FunctionEntity } from '../functions/function.entity.js';
import type { FunctionRepository } from '../functions/function.repository.js';
import type { Activator, Sleeper } from '../scaling/activator.js';
import { Cancellation } from './cancellation.js';
import { CallCancelled } from './errors.js';
import { type Route, Router } from './router.js';

const ID = 'aaaaaaaaaaaaaaaa';
/** Workers of one of its revisions beside its own. */
const FURTHER = 'cccccccccccccccc';
const READY: Endpoint = { replica: 'r1', address: { kind: 'tcp', host: '127.0.0.1', port: 1 }, guard: 'worker' };
const silent = pino({ level: 'silent' });

let row: FunctionEntity | null;
let changes: FunctionChanges;
let bus: FunctionBus;
let router: Router;
/** Functions whose wake was asked for. */
let woken: string[];
let route: Route;
/** How often a row was read, and what every reading waits for. */
let reads: number;
let reading: Promise<void>;

function sleeping(): FunctionEntity {
  return Object.assign(new FunctionEntity(), {
    id: ID,
    replicas: 0,
    minReplicas: 0,
    maxReplicas: null,
    idleTimeoutMs: 1_000,
    timeoutMs: 1_000,
    name: null,
    enabled: true,
    activeRevision: 1,
    servingRevision: null,
    workloadOf: null,
    traffic: null,
    wantedTraffic: null,
    restingSince: null,
    concurrency: 4,
    phase: 'idle',
    endpoints: [],
    deletedAt: null,
    reason: null,
    lastFault: null,
  });
}

function change(changed: Partial<FunctionEntity>): void {
  row = Object.assign(new FunctionEntity(), row, changed);
}

beforeEach(async () => {
  row = sleeping();
  changes = new FunctionChanges(new Notifications('postgresql://127.0.0.1:1/none', silent));
  bus = new FunctionBus();
  reads = 0;
  const find = (id: string) => {
    reads += 1;
    return reading.then(() => (id === FURTHER ? { ...sleeping(), id, workloadOf: ID } : row));
  };
  reading = Promise.resolve();
  const repository = { find } as unknown as FunctionRepository;
  const logger = silent as unknown as PinoLogger;
  woken = [];
  const activator = { wake: ({ id }: Sleeper) => void woken.push(id) } as Activator;
  const { limits } = loadConfig({});
  router = new Router(repository, new MemoryOrchestrator(), TEST_TOKENS, changes, bus, activator, limits, logger);
  route = await router.route(ID);
});
afterEach(() => router.onApplicationShutdown());

const acquire = async () =>
  route.pool.acquire({ waitMs: 5_000, cancellation: new Cancellation(), refused: () => new CallCancelled() });

describe('A route', () => {
  it('costs one reading of its row', async () => {
    await new Promise((resolve) => setImmediate(resolve));
    expect(reads).toBe(1);
  });

  it('is read again where the row has changed while it was read first', async () => {
    const other = 'bbbbbbbbbbbbbbbb';
    const { promise, resolve } = Promise.withResolvers<void>();
    reading = promise;
    const loading = router.route(other);
    changes.tell(other);
    resolve();
    await loading;
    await expect.poll(() => reads).toBe(3);
  });

  it('is read once for one change of which it is told in several ways', async () => {
    changes.tell(ID);
    await Promise.resolve();
    changes.tell(ID);
    bus.emit('recorded', ID);
    change({ replicas: 1, phase: 'running', endpoints: [READY] });
    await expect.poll(() => route.sleeps).toBe(false);
    expect(reads).toBe(2);
  });
});

describe('A route whose function is switched off', () => {
  it('refuses the calls that wait for a further revision of it, too', async () => {
    const { pool } = await router.route(FURTHER);
    const waiting = Promise.resolve(
      pool.acquire({ waitMs: 5_000, cancellation: new Cancellation(), refused: () => new CallCancelled() }),
    );
    const refused = expect(waiting).rejects.toMatchObject({ code: 'function_disabled' });
    change({
      enabled: false,
      traffic: { version: 2, targets: [{ revision: 2, percent: 100, workload: FURTHER }] },
    });
    changes.tell(ID);
    await refused;
  });
});

describe('A route whose function falls asleep', () => {
  it('wakes it for calls that wait already, for they have looked before', async () => {
    change({ replicas: 1, phase: 'running', endpoints: [READY], concurrency: 1 });
    changes.tell(ID);
    await expect.poll(() => route.sleeps).toBe(false);
    await acquire();
    const waiting = acquire();
    expect(woken).toEqual([]);
    change({ replicas: 0, phase: 'idle', endpoints: [] });
    changes.tell(ID);
    await expect.poll(() => woken).toEqual([ID]);
    bus.emit('ready', ID, [{ ...READY, replica: 'another' }]);
    expect((await waiting).replica.endpoint.replica).toBe('another');
  });
});

describe('A route whose function gets its first replica', () => {
  it('serves waiting calls while the replica is being written down, and goes on when it was', async () => {
    const waiting = acquire();
    bus.emit('ready', ID, [READY]);
    expect((await waiting).replica.endpoint).toEqual(READY);
    change({ replicas: 1, phase: 'running', endpoints: [READY] });
    bus.emit('recorded', ID);
    await expect.poll(() => route.sleeps).toBe(false);
    expect(route.pool.size).toBe(1);
  });

  it('keeps it when a row is read that was written before', async () => {
    bus.emit('ready', ID, [READY]);
    change({ replicas: 1, phase: 'creating' });
    changes.tell(ID);
    await expect.poll(() => route.sleeps).toBe(false);
    expect(route.pool.size).toBe(1);
    bus.emit('recorded', ID);
  });

  it('follows the row again when the replica could not be recorded', async () => {
    bus.emit('ready', ID, [READY]);
    expect(route.pool.size).toBe(1);
    bus.emit('recorded', ID);
    await expect.poll(() => route.pool.size).toBe(0);
  });

  it('gives no more calls to a replica that is taken back before its step has ended', async () => {
    bus.emit('ready', ID, [READY]);
    const held = await acquire();
    bus.emit('ready', ID, []);
    expect(route.pool.isEmpty).toBe(true);
    const waiting = acquire();
    held[Symbol.dispose]();
    bus.emit('ready', ID, [{ ...READY, replica: 'another' }]);
    expect((await waiting).replica.endpoint.replica).toBe('another');
    bus.emit('recorded', ID);
  });

  it('refuses at once when the function is being removed meanwhile', async () => {
    bus.emit('ready', ID, [READY]);
    change({ deletedAt: new Date() });
    changes.tell(ID);
    await expect.poll(() => route.refusal).toBeDefined();
    expect(route.pool.size).toBe(0);
    bus.emit('recorded', ID);
  });

  it('ignores published replicas beside known ones, and those of a function that it refuses', async () => {
    change({ replicas: 1, phase: 'running', endpoints: [READY] });
    changes.tell(ID);
    await expect.poll(() => route.pool.size).toBe(1);
    const other: Endpoint = { ...READY, replica: 'r2' };
    bus.emit('ready', ID, [READY, other]);
    expect(route.pool.size).toBe(1);
    change({ endpoints: [], phase: 'error' });
    changes.tell(ID);
    await expect.poll(() => route.refusal).toBeDefined();
    bus.emit('ready', ID, [other]);
    expect(route.pool.size).toBe(0);
  });
});
