import { Database } from '#libs/database/database.js';
import { Notifications } from '#libs/database/notifications.js';
import { MemoryOrchestrator } from '#libs/orchestrator/testing/memory.orchestrator.js';
import type { PinoLogger } from 'nestjs-pino';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { DemandRepository } from '../../apps/manager/src/scaling/demand.repository.js';
import { StepSlots } from '../../apps/manager/src/functions/inline-reconciler.js';
import { FunctionChanges } from '../../apps/manager/src/functions/function-changes.js';
import { FunctionRepository } from '../../apps/manager/src/functions/function.repository.js';
import { Autoscaler } from '../../apps/manager/src/scaling/autoscaler.js';
import { createSharedDatabase } from '../support/postgres.js';
import { Installation, newFunction } from './installation.js';

const CONFIG = {
  intervalMs: 10,
  downWindowMs: 60_000,
  maxReplicas: 4,
  maxClusterReplicas: 2,
  memoryMiB: 4_096,
};
const silent = pino({ level: 'silent' });

/** Keeps what it was asked. */
class OpenDatabase extends Database {
  readonly asked: string[] = [];

  override query<Row>(sql: string, parameters: readonly unknown[] = []): Promise<Row[]> {
    this.asked.push(sql);
    return super.query<Row>(sql, parameters);
  }

  count(part: string): number {
    return this.asked.filter((sql) => sql.includes(part)).length;
  }
}

let here: Installation;
let database: OpenDatabase;
let notifications: Notifications;
let autoscaler: Autoscaler;

beforeAll(async () => {
  here = await Installation.open(await createSharedDatabase());
});
afterAll(() => here.close());
beforeEach(() => {
  database = new OpenDatabase(here.source);
  notifications = new Notifications(here.url, silent);
  notifications.start();
  autoscaler = autoscalerOn(new MemoryOrchestrator());
});
afterEach(async () => {
  await autoscaler.stop();
  await notifications.close();
  await here.reset();
});

function autoscalerOn(engine: MemoryOrchestrator): Autoscaler {
  const started = new Autoscaler(
    new FunctionRepository(database),
    new DemandRepository(database),
    engine,
    new StepSlots({ concurrency: 4 }),
    CONFIG,
    new FunctionChanges(notifications),
    silent as unknown as PinoLogger,
  );
  started.onApplicationBootstrap();
  return started;
}

/** An engine with an autoscaler of its own. */
class ScalingOrchestrator extends MemoryOrchestrator {
  override readonly capabilities = { ...new MemoryOrchestrator().capabilities, scalesItself: true };
}

const looks = () => database.count('AS awake');
/** So many times the interval of its rounds, counted in the rounds of another clock. */
const ticks = (count: number) =>
  new Promise<void>((resolve) => {
    let left = count;
    const clock = setInterval(() => {
      left -= 1;
      if (left > 0) return;
      clearInterval(clock);
      resolve();
    }, CONFIG.intervalMs);
  });

describe('Autoscaler', () => {
  it('asks nothing while nothing runs', async () => {
    await expect.poll(looks).toBeGreaterThan(0);
    // The first notification, that anything may have changed, ends one rest.
    await ticks(10);
    const before = database.asked.length;
    await ticks(20);
    expect(database.asked.length - before).toBeLessThanOrEqual(1);
    expect(database.count('AS "callsNow"')).toBe(0);
  });

  it('is at work again as soon as a function runs', async () => {
    await expect.poll(looks).toBeGreaterThan(0);
    await ticks(10);
    here.start();
    const id = await here.add({ idleTimeoutMs: 100 });
    await here.database.query('UPDATE functions SET provisional_until = NULL');
    await expect.poll(async () => (await here.row(id)).phase, { timeout: 15_000 }).toBe('idle');
    expect(await here.row(id)).toMatchObject({ replicas: 0 });
  });

  it('lets a function fall asleep whose file can’t be loaded any more', async () => {
    here.start();
    const wanted = newFunction({ idleTimeoutMs: 0 });
    const { id } = await here.repository.insert(wanted);
    const { primaryReplica } = await here.ready(id);
    here.world.failLoading(wanted.codeSha256);
    here.world.killReplica(primaryReplica);
    await expect.poll(async () => (await here.row(id)).phase, { timeout: 15_000 }).toBe('error');
    await here.database.query('UPDATE functions SET idle_timeout_ms = 100');
    await expect.poll(async () => (await here.row(id)).phase, { timeout: 15_000 }).toBe('idle');
    expect(await here.row(id)).toMatchObject({ replicas: 0, lastFault: { code: 'handler_not_loadable' } });
  });

  it('asks for the memory only when a function needs more replicas', async () => {
    here.start();
    const id = await here.add({ idleTimeoutMs: 0, concurrency: 2 });
    await here.ready(id);
    const demands = new DemandRepository(here.database);
    await demands.record([{ id, callsNow: 1, callsLately: 1 }]);
    const loads = () => database.count('AS "callsNow"');
    const before = loads();
    await expect.poll(loads).toBeGreaterThan(before + 2);
    expect(database.count('memory_mib)')).toBe(0);
    await demands.record([{ id, callsNow: 3, callsLately: 3 }]);
    await expect.poll(async () => (await here.row(id)).replicas).toBe(3);
    expect(database.count('memory_mib)')).toBeGreaterThan(0);
  });

  it('asks for no memory on an engine that scales itself, whose own limit of replicas counts', async () => {
    await autoscaler.stop();
    autoscaler = autoscalerOn(new ScalingOrchestrator());
    here.start();
    const id = await here.add({ idleTimeoutMs: 0, concurrency: 2 });
    await here.ready(id);
    await new DemandRepository(here.database).record([{ id, callsNow: 9, callsLately: 9 }]);
    await expect.poll(async () => (await here.row(id)).replicas).toBe(2);
    expect(database.count('memory_mib)')).toBe(0);
  });
});
