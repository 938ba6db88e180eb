import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { ManagerProcess } from '../crash/support/manager-process.js';
import type { FunctionDto } from '../client/index.js';
import type { EngineRoom } from '../support/engine.js';
import { describeOnEachLocalEngine } from '../support/engines.js';
import { ECHO, SLEEPY, WITNESS } from '../support/handlers.js';
import { type Answer, send } from '../support/http.js';
import { createSharedDatabase, dropSharedDatabase } from '../support/postgres.js';
import { field, file, form } from '../support/uploads.js';
import { formerRelease, PRESENT, type Release } from './support/releases.js';
import { type Calling, Traffic } from './support/traffic.js';

const ENV = {
  LISTEN_ADDR: '127.0.0.1:0',
  WARM_POOL_SIZE: '1',
  SCALE_INTERVAL_MS: '100',
  // Managers that undid each other's work would do so at every look.
  RECONCILE_RESYNC_MS: '750',
  ORPHAN_SWEEP_MS: '1000',
  // For probes to notice, as an installation behind a load balancer has it.
  SHUTDOWN_DELAY_MS: '2000',
};
const LONG_S = 3;
const IDLE_MS = 1_000;
/** Long enough for a function to be looked at several times by every manager. */
const SETTLE_MS = 2_000;

/** Beside the present worker, which the engine's room names: workers are replaced, be they of the same code. */
const OTHER = { WORKER_MEMORY_MIB: '160' };

type Settings = Readonly<Record<string, string>>;

describeOnEachLocalEngine('a release, followed by the next one and going back', (engine) => {
  let room: EngineRoom;
  let database: string;
  let former: Release;
  let present: ManagerProcess;
  let started = 0;
  const managers: ManagerProcess[] = [];
  const traffic = new Traffic();
  /** Has a worker at all times, which once waited in the pool; it tells which. */
  let steady: Calling;
  let worker: string | undefined;
  /** Falls asleep after each call. */
  let sleepy: Calling;
  /** Always has calls under way. */
  let long: FunctionDto;
  /** Added by one manager, for a later one to remove. */
  let passing: string[] = [];

  const ask = (manager: ManagerProcess, path: string, sent = {}): Promise<Answer> =>
    send(`${manager.url}${path}`, sent);
  const metric = async (manager: ManagerProcess, sample: string) => {
    const { text } = await ask(manager, '/metrics');
    const line = text.split('\n').find((one) => one.startsWith(`${sample} `));
    return Number(line?.slice(sample.length + 1) ?? 0);
  };
  const add = async (manager: ManagerProcess, code: string, fields: Readonly<Record<string, string>> = {}) => {
    const others = Object.entries(fields).map(([name, value]) => field(name, value));
    const sent = form(file(code), field('function_name', 'handle'), ...others);
    const answer = await ask(manager, '/functions', { method: 'POST', ...sent });
    expect(answer.status, answer.text).toBe(201);
    return answer.json() as FunctionDto;
  };
  const remove = async (manager: ManagerProcess, id: string) => {
    const answer = await ask(manager, `/functions/${id}`, { method: 'DELETE' });
    expect(answer.status, answer.text).toBe(204);
  };
  const start = async (release: 'former' | 'present', settings: Settings): Promise<ManagerProcess> => {
    started += 1;
    const build = release === 'former' ? former.build : PRESENT;
    const env = { ...room.env, ...ENV, DATABASE_URL: database, ...settings };
    const manager = new ManagerProcess(`${started} (${release} release)`, build, env);
    managers.push(manager);
    await manager.start();
    traffic.watch(manager);
    return manager;
  };
  const untilIdle = async (id: string) => {
    const isIdle = async () => {
      if (traffic.isEnding) return true;
      const { text } = await ask(present, `/functions/${id}`);
      return text.includes('"status":"idle"');
    };
    // A manager may leave while it is asked.
    await vi.waitUntil(() => isIdle().catch(() => false), { timeout: 60_000, interval: 50 });
  };

  /** Whoever is alive takes uploads, calls and removals of what others have added. */
  const use = async (...alive: ManagerProcess[]) => {
    const added: string[] = [];
    for (const manager of alive) {
      const { id } = await add(manager, ECHO, { timeout_ms: '30000' });
      added.push(id);
      for (const other of alive) expect(await traffic.call(id, 'new', other)).toBe('new');
    }
    const before = passing;
    passing = added;
    for (const [index, id] of before.entries()) await remove(alive[index % alive.length]!, id);
  };

  /** Puts a manager beside the present one, which then leaves in the middle of a call. */
  const follow = async (release: 'former' | 'present', settings: Settings) => {
    const leaving = present;
    const next = await start(release, settings);
    await use(leaving, next);
    present = next;
    const wakes = sleepy.count;
    await vi.waitUntil(() => sleepy.count >= wakes + 2, { timeout: 30_000, interval: 50 });
    const last = traffic.call(long.id, `sleep ${LONG_S}`, leaving);
    const inFlight = `faas_calls_in_flight{function="${long.id}"}`;
    await vi.waitUntil(async () => (await metric(leaving, inFlight)) > 0, { timeout: 10_000, interval: 20 });
    const ended = leaving.terminate();
    expect(await last).toBe('slept');
    expect(await ended, leaving.tail(50)).toBe(0);
    await use(next);
  };
  /** The worker that has had all calls for long, if one has: managers that undo each other's work leave none. */
  const lastingWorker = async () => {
    steady.seen.clear();
    await delay(SETTLE_MS);
    const [first, ...others] = steady.seen;
    return others.length === 0 ? first : undefined;
  };
  beforeAll(async () => {
    former = await formerRelease(engine);
    database = await createSharedDatabase();
    room = await engine.openRoom();
    present = await start('former', former.worker);
    await vi.waitUntil(async () => (await metric(present, 'faas_pool_ready')) === 1, { timeout: 60_000, interval: 50 });
    const one = { min_replicas: '1', max_replicas: '1', idle_timeout_ms: '0' };
    const { id: steadyId } = await add(present, WITNESS, one);
    worker = await traffic.call(steadyId, 'who', present);
    steady = traffic.keepCalling(steadyId, 'who');
    expect(await metric(present, 'faas_pool_takes_total{outcome="hit"}')).toBe(1);
    const { id } = await add(present, ECHO, { idle_timeout_ms: String(IDLE_MS) });
    sleepy = traffic.keepCalling(id, 'awake', () => untilIdle(id));
    long = await add(present, SLEEPY);
    for (const seconds of [LONG_S, LONG_S / 2]) traffic.keepCalling(long.id, `sleep ${seconds}`);
  });
  afterAll(async () => {
    await traffic.end();
    await Promise.all(managers.map((manager) => manager.kill()));
    await room.clear();
    await dropSharedDatabase(database);
  });

  it.each([
    ['the next release follows with the same worker and settings', 'present', () => former.worker, 'kept'],
    ['the former release follows with the same', 'former', () => former.worker, 'kept'],
    ['the next release follows with its own worker and settings', 'present', () => OTHER, 'replaced'],
    ['the former release follows with its own', 'former', () => former.worker, 'replaced'],
  ] as const)('fails no call when %s', { timeout: 300_000 }, async (_which, release, settings, workers) => {
    const before = worker;
    steady.seen.clear();
    await follow(release, settings());
    if (workers === 'kept') {
      await delay(SETTLE_MS);
      expect([...steady.seen]).toEqual([before]);
    } else {
      worker = await vi.waitUntil(lastingWorker, { timeout: 60_000, interval: 1 });
      expect(worker).not.toBe(before);
    }
    expect(traffic.failures).toEqual([]);
  });

  it('leaves nothing behind', async () => {
    await traffic.end();
    expect(traffic.failures).toEqual([]);
    const listed = (await ask(present, '/functions')).json() as FunctionDto[];
    expect(listed).toHaveLength(4);
    for (const { id } of listed) await remove(present, id);
    expect(await present.terminate()).toBe(0);
    await vi.waitFor(async () => expect(await room.workers()).toEqual([]), { timeout: 30_000 });
  });
});
