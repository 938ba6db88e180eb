import type { InvocationsConfig, SchedulesConfig } from '#libs/config/config.js';
import { loadConfig } from '#libs/config/load-config.js';
import { Database } from '#libs/database/database.js';
import { Notifications } from '#libs/database/notifications.js';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { PinoLogger } from 'nestjs-pino';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { FunctionChanges } from '../../apps/manager/src/functions/function-changes.js';
import type { Completion } from '../../apps/manager/src/invocations/invocation.repository.js';
import { InvocationRepository } from '../../apps/manager/src/invocations/invocation.repository.js';
import { InvocationSignals } from '../../apps/manager/src/invocations/invocation-signals.js';
import type { Schedule, ScheduleSpec } from '../../apps/manager/src/schedules/schedule.js';
import type { ScheduleMetrics } from '../../apps/manager/src/schedules/schedule-metrics.js';
import { specIn } from '../../apps/manager/src/schedules/schedule-request.js';
import { type Fired, ScheduleRepository } from '../../apps/manager/src/schedules/schedule.repository.js';
import { Scheduler } from '../../apps/manager/src/schedules/scheduler.js';
import { Installation, silent } from '../reconcile/installation.js';
import { createSharedDatabase } from '../support/postgres.js';

const { invocations, limits, schedules: SCHEDULES } = loadConfig({});
const ANEW = { versions: undefined, mustExist: false };
const PATIENCE = { timeout: 30_000, interval: 20 };
const logger = new PinoLogger({ pinoHttp: { level: 'silent' } });
const DAY_MS = 86_400_000;

let here: Installation;
const managers: TestScheduler[] = [];
beforeAll(async () => {
  here = await Installation.open(await createSharedDatabase());
});
afterAll(() => here.close());
afterEach(async () => {
  vi.useRealTimers();
  await Promise.all(managers.splice(0).map((manager) => manager.stop()));
  await here.database.query('TRUNCATE invocations, invocation_queues');
  await here.reset();
});

/** Counts what is asked of the database. */
class CountingDatabase extends Database {
  asked = 0;

  override run<T>(work: () => Promise<T>): Promise<T> {
    this.asked += 1;
    return super.run(work);
  }
}

/** What fires schedules of a manager. */
class TestScheduler {
  readonly database = new CountingDatabase(here.source);
  readonly repository: ScheduleRepository;
  readonly fired: Fired[] = [];
  readonly changes: FunctionChanges;
  readonly signals: InvocationSignals;
  private readonly notifications = new Notifications(here.url, silent);
  private readonly scheduler: Scheduler;

  constructor() {
    this.repository = new ScheduleRepository(
      this.database,
      new InvocationRepository(this.database, invocations),
      SCHEDULES,
    );
    this.signals = new InvocationSignals(this.database, this.notifications);
    this.changes = new FunctionChanges(this.notifications);
    const metrics = { fired: (one: Fired) => this.fired.push(one) } as unknown as ScheduleMetrics;
    const { repository, signals, notifications, changes } = this;
    this.scheduler = new Scheduler(repository, signals, metrics, notifications, changes, logger);
    managers.push(this);
  }

  static start(): TestScheduler {
    const manager = new TestScheduler();
    manager.notifications.start();
    manager.scheduler.onApplicationBootstrap();
    return manager;
  }

  async stop(): Promise<void> {
    await this.scheduler.onApplicationShutdown();
    this.signals.onApplicationShutdown();
    await this.notifications.close();
  }
}

/** As of a manager that fires nothing by itself. */
function repository(
  config: Partial<SchedulesConfig> = {},
  queue: Partial<InvocationsConfig> = {},
  database = here.database,
): ScheduleRepository {
  const calls = new InvocationRepository(database, { ...invocations, ...queue });
  return new ScheduleRepository(database, calls, { ...SCHEDULES, ...config });
}

const calls = () => new InvocationRepository(here.database, invocations);
const spec = (members: object = { interval_ms: 60_000 }): ScheduleSpec =>
  specIn(members as Record<string, unknown>, { ...limits, ...invocations, defaults: {} }, new Date());

async function put(functionId: FunctionId, members?: object, name = 'often'): Promise<Schedule> {
  return (await repository().write({ functionId, name }, spec(members), ANEW, null)).row;
}

async function read(functionId: FunctionId, name = 'often'): Promise<Schedule> {
  const row = await repository().find(functionId, name);
  if (row === null) throw new Error(`Schedule ${name} is gone.`);
  return row;
}

/** Every schedule is as it would be so much later. */
async function letPass(ms: number): Promise<void> {
  const earlier = (column: string) => `${column} = ${column} - $1 * interval '1 millisecond'`;
  const columns = ['next_at', 'due_at', 'anchor_at', 'fired_for'].map(earlier).join(', ');
  await here.database.query(`UPDATE schedules SET ${columns}`, [ms]);
  // They are a key, of which none may have the place of another in between.
  const centuryMs = 100 * 365 * DAY_MS;
  for (const by of [centuryMs, ms - centuryMs]) {
    await here.database.query(`UPDATE schedule_firings SET ${earlier('scheduled_for')}`, [by]);
  }
}

const firings = async (functionId: FunctionId, name = 'often') => repository().firings(functionId, name, 1_000);

/** Runs what waits of a function, and has it end so. */
async function run(functionId: FunctionId, status: Completion['status'], most = 10): Promise<number> {
  const claims = await calls().claim([{ functionId, most }], 60_000);
  for (const { id, token } of claims) await calls().complete({ id, token, status, revision: 1 });
  return claims.length;
}

const listed = (functionId: FunctionId) => repository().list(functionId, '', 100);
const queued = () =>
  here.database.query('SELECT function_id AS id, calls FROM invocation_queues WHERE calls > 0 ORDER BY 1');

describe('schedules in the database', () => {
  it('make one call for each time, however many managers fire at once', async () => {
    const functions = await Promise.all(Array.from({ length: 120 }, () => here.add()));
    for (const id of functions) await put(id, { interval_ms: 60_000, payload: id });
    expect((await repository().fire()).fired).toEqual([]);
    await letPass(60_000);
    const fired: Fired[] = [];
    const manager = async (): Promise<void> => {
      const own = repository();
      while ((await own.nearest())! <= 0) fired.push(...(await own.fire()).fired);
    };
    await Promise.all([manager(), manager(), manager()]);
    expect(fired.map(({ functionId }) => functionId).toSorted()).toEqual(functions.toSorted());
    const rows = await here.database.query<{ id: string; payload: string; schedule: string; time: Date; by: string }>(
      `SELECT function_id AS id, convert_from(body, 'UTF8')::jsonb->>'payload' AS payload, schedule,
         scheduled_for AS time FROM invocations`,
    );
    expect(rows.map(({ id }) => id).toSorted()).toEqual(functions.toSorted());
    for (const { id, payload, schedule } of rows) expect([payload, schedule]).toEqual([id, 'often']);
    expect(await queued()).toHaveLength(120);
    const [one] = functions as [FunctionId];
    const row = await read(one);
    const [run] = await firings(one);
    expect(run).toMatchObject({ status: 'waiting', scheduledFor: rows.find(({ id }) => id === one)!.time });
    expect(row).toMatchObject({ fired: 1, missed: 0, nextAt: new Date(run!.scheduledFor.getTime() + 60_000) });
  });

  it('never make a second call for a time, whatever the clock or the row says', async () => {
    const id = await here.add();
    const { anchorAt, nextAt } = await put(id, { interval_ms: 60_000, overlap: 'allow' });
    await letPass(60_000);
    await repository().fire();
    // As after the clock was set back, and the schedule was changed then.
    await here.database.query('UPDATE schedules SET anchor_at = $1, next_at = $2, due_at = $2', [
      new Date(anchorAt.getTime() - 60_000),
      new Date(nextAt!.getTime() - 60_000),
    ]);
    expect((await repository().fire()).fired).toMatchObject([{ call: undefined, missed: [] }]);
    expect(await firings(id)).toHaveLength(1);
    expect(await queued()).toEqual([{ id, calls: 1 }]);
    expect((await read(id)).nextAt).toEqual(nextAt);
  });

  it('never make a second call for a time that is too long ago to be remembered', async () => {
    const id = await here.add();
    const { nextAt } = await put(id, { interval_ms: 60_000, overlap: 'allow' });
    await letPass(60_000);
    await repository().fire();
    await here.database.query('DELETE FROM schedule_firings');
    // The clock is set back, and somebody changes the schedule.
    await letPass(-3_600_000);
    const { firedFor } = await read(id);
    const change = async (members: object) =>
      (await put(id, { interval_ms: 60_000, overlap: 'allow', ...members })).nextAt;
    await change({ enabled: false });
    expect((await change({}))!.getTime()).toBe(firedFor!.getTime() + 60_000);
    await here.database.query(`UPDATE schedules SET is_resting = true, next_at = NULL, due_at = NULL`);
    await repository().goOn([id]);
    expect((await read(id)).nextAt!.getTime()).toBe(firedFor!.getTime() + 60_000);
    expect(firedFor!.getTime() - nextAt!.getTime()).toBe(3_540_000);
    await here.database.query('UPDATE schedules SET next_at = fired_for, due_at = now()');
    expect((await repository().fire()).fired).toMatchObject([{ call: undefined, missed: [] }]);
  });

  it('rest while the clock is set back, and fire once for what a clock set forward has passed', async () => {
    const id = await here.add();
    await put(id, { interval_ms: 60_000, overlap: 'allow' });
    await letPass(60_000);
    await repository().fire();
    await letPass(-3_600_000);
    expect(await repository().nearest()).toBeGreaterThan(3_600_000);
    expect((await repository().fire()).fired).toEqual([]);
    await letPass(3_600_000 + 3_600_000);
    expect((await repository().fire()).fired).toMatchObject([{ missed: [{ reason: 'late', count: 59 }] }]);
    expect(await firings(id)).toHaveLength(2);
  });

  it('leave nothing of a firing that is not committed, and fire it with the next manager', async () => {
    const id = await here.add();
    await put(id);
    await letPass(60_000);
    const failing = new InvocationRepository(here.database, invocations);
    failing.enqueueAll = () => Promise.reject(new Error('killed'));
    const killed = new ScheduleRepository(here.database, failing, SCHEDULES);
    const before = await read(id);
    await expect(killed.fire()).rejects.toThrow('killed');
    expect(await read(id)).toEqual(before);
    expect(await firings(id)).toEqual([]);
    expect((await repository().fire()).fired).toMatchObject([{ functionId: id, call: {} }]);
  });

  it('leave a time to the manager that is about to fire it, and take it when that is gone', async () => {
    const id = await here.add();
    await put(id);
    await letPass(60_000);
    const other = new pg.Client({ connectionString: here.url });
    await other.connect();
    await other.query('BEGIN');
    await other.query('SELECT FROM schedules FOR NO KEY UPDATE');
    expect((await repository().fire()).fired).toEqual([]);
    await other.end();
    await vi.waitFor(async () => expect((await repository().fire()).fired).toHaveLength(1), PATIENCE);
  });

  it('are let go of by a manager that stands still while it fires', async () => {
    const id = await here.add();
    await put(id);
    await letPass(60_000);
    const calls = new InvocationRepository(here.database, invocations);
    let wake: () => void = () => undefined;
    const woken = new Promise<void>((resolve) => (wake = resolve));
    const enqueueAll = calls.enqueueAll.bind(calls);
    let isStill = false;
    calls.enqueueAll = async (...sent) => {
      const outcomes = await enqueueAll(...sent);
      isStill = true;
      await woken;
      return outcomes;
    };
    const still = new ScheduleRepository(here.database, calls, SCHEDULES).fire();
    const end = expect(still).rejects.toBeInstanceOf(DatabaseUnavailable);
    await vi.waitFor(() => expect(isStill).toBe(true), PATIENCE);
    expect((await repository().fire()).fired).toEqual([]);
    await vi.waitFor(async () => expect((await repository().fire()).fired).toHaveLength(1), PATIENCE);
    wake();
    await end;
    expect(await firings(id)).toHaveLength(1);
    expect(await queued()).toEqual([{ id, calls: 1 }]);
  });

  it('keep no other from firing where one can’t be read here', async () => {
    const [unreadable, other] = [await here.add(), await here.add()];
    await put(unreadable, { cron: '@daily', catch_up_ms: DAY_MS });
    await put(other);
    await here.database.query(`UPDATE schedules SET timezone = 'Of/Tomorrow' WHERE function_id = $1`, [unreadable]);
    await letPass(DAY_MS);
    const { fired } = await repository().fire();
    expect(fired.find(({ functionId }) => functionId === other)).toMatchObject({ call: {}, fault: undefined });
    expect(fired.find(({ functionId }) => functionId === unreadable)?.fault).toBeInstanceOf(Error);
    expect(await repository().nearest()).toBeGreaterThan(0);
    // It isn't lost: another manager, or this one soon, makes up for it.
    await here.database.query(`UPDATE schedules SET timezone = 'UTC', due_at = now()`);
    await repository().fire();
    expect(await firings(unreadable)).toHaveLength(1);
  });

  it('make up for the last of the times that were missed, or for none', async () => {
    const [up, none] = [await here.add(), await here.add()];
    const { nextAt } = await put(up, { interval_ms: 60_000 });
    const { nextAt: other } = await put(none, { interval_ms: 60_000, catch_up_ms: 0 });
    await letPass(600_000 + 30_000);
    const { fired } = await repository().fire();
    expect(fired).toHaveLength(2);
    const [first] = await firings(up);
    const last = (next: Date) => new Date(next.getTime() - 600_000 - 30_000 + 540_000);
    expect(first!.scheduledFor).toEqual(last(nextAt!));
    expect(await read(up)).toMatchObject({ fired: 1, missed: 9, lastMissedReason: 'late' });
    expect(await firings(none)).toEqual([]);
    const row = await read(none);
    expect(row).toMatchObject({ fired: 0, missed: 10, lastMissedReason: 'late', lastMissedFor: last(other!) });
    expect(row.nextAt!.getTime()).toBe(last(other!).getTime() + 60_000);
  });

  it('leave out, put off or make a call while an earlier one has not ended', async () => {
    const [skip, queue, allow] = [await here.add(), await here.add(), await here.add()];
    for (const [id, overlap] of [
      [skip, 'skip'],
      [queue, 'queue'],
      [allow, 'allow'],
    ] as const) {
      await put(id, { interval_ms: 60_000, overlap });
    }
    for (let minute = 0; minute < 3; minute += 1) {
      await letPass(60_000);
      await repository().fire();
    }
    expect(await firings(skip)).toHaveLength(1);
    expect(await read(skip)).toMatchObject({ missed: 2, lastMissedReason: 'overlap' });
    expect(await firings(allow)).toHaveLength(3);
    expect(await firings(queue)).toHaveLength(1);
    const held = await read(queue);
    expect(held).toMatchObject({ isHeld: true, missed: 0 });
    // The end of the earlier one makes it due at once.
    expect(await run(queue, 'succeeded')).toBe(1);
    expect(await repository().settle()).toEqual([]);
    expect(await repository().nearest()).toBeLessThanOrEqual(0);
    await repository().fire();
    const [second] = await firings(queue);
    expect(second!.scheduledFor).toEqual(held.nextAt);
    expect(await read(queue)).toMatchObject({ isHeld: false, fired: 2, missed: 1, lastMissedReason: 'overlap' });
    await run(skip, 'dead');
    await letPass(60_000);
    await repository().fire();
    expect((await firings(skip)).map(({ status }) => status)).toEqual(['waiting', 'dead']);
  });

  it('take a call that is redriven for one that has not ended', async () => {
    const id = await here.add();
    await put(id, { interval_ms: 60_000 });
    await letPass(60_000);
    await repository().fire();
    await run(id, 'dead');
    await repository().settle();
    expect(await calls().redrive(id, null, 10)).toBe(1);
    await letPass(60_000);
    expect((await repository().fire()).fired).toMatchObject([{ missed: [{ reason: 'overlap' }] }]);
    await run(id, 'succeeded');
    await repository().settle();
    await here.database.query('TRUNCATE invocations');
    expect(await firings(id)).toMatchObject([{ status: 'succeeded' }]);
  });

  it.each(['skip', 'queue'])(
    'have one call at a time where they %s, however many managers fire at once',
    async (overlap) => {
      const functions = await Promise.all(Array.from({ length: 10 }, () => here.add()));
      for (const id of functions) await put(id, { interval_ms: 1_000, overlap });
      for (let round = 0; round < 10; round += 1) {
        await letPass(1_000);
        // What is held is due, too.
        await here.database.query('UPDATE schedules SET due_at = next_at');
        await Promise.all(
          upTo(4).map(async () => {
            const own = repository();
            while ((await own.nearest())! <= 0 && (await own.fire()).fired.some(({ call }) => call)) await own.settle();
          }),
        );
        const open = await here.database.query<{ most: number }>(
          `SELECT count(*)::integer AS most FROM invocations WHERE status = 'waiting' GROUP BY function_id
         ORDER BY 1 DESC LIMIT 1`,
        );
        expect(open[0]?.most ?? 0).toBeLessThanOrEqual(1);
        if (round % 2 === 1) for (const id of functions) await run(id, 'succeeded');
      }
      for (const id of functions) expect((await firings(id)).length).toBeGreaterThan(1);
    },
  );

  it('put a call off for as long as the earlier one runs, though nobody tells of its end', async () => {
    const id = await here.add();
    await put(id, { interval_ms: 60_000, overlap: 'queue' });
    for (let minute = 0; minute < 2; minute += 1) {
      await letPass(60_000);
      await repository().fire();
    }
    await here.database.query('UPDATE schedules SET due_at = now()');
    await repository().fire();
    expect(await read(id)).toMatchObject({ isHeld: true, fired: 1 });
    await run(id, 'succeeded');
    await here.database.query('UPDATE schedules SET due_at = now()');
    await repository().fire();
    expect(await read(id)).toMatchObject({ isHeld: false, fired: 2 });
  });

  it('note a time whose call has no room, and go on', async () => {
    const id = await here.add();
    await put(id, { interval_ms: 60_000, overlap: 'allow' });
    for (let minute = 0; minute < 3; minute += 1) {
      await letPass(60_000);
      await repository({}, { perFunction: 1 }).fire();
    }
    expect(await firings(id)).toHaveLength(1);
    expect(await read(id)).toMatchObject({ fired: 1, missed: 2, lastMissedReason: 'queue_full' });
    expect(await queued()).toEqual([{ id, calls: 1 }]);
    await run(id, 'succeeded');
    await letPass(60_000);
    expect((await repository({}, { perFunction: 1 }).fire()).fired).toMatchObject([{ call: {}, missed: [] }]);
  });

  it('pause when so many calls in a row have failed, and go on when they are put again', async () => {
    const id = await here.add();
    const members = { interval_ms: 60_000, pause_after_failures: 2 };
    const fireAndEnd = async (status: Completion['status']) => {
      await letPass(60_000);
      await repository().fire();
      expect(await run(id, status)).toBe(1);
      return repository().settle();
    };
    await put(id, members);
    expect(await fireAndEnd('dead')).toEqual([]);
    expect(await fireAndEnd('succeeded')).toEqual([]);
    expect(await read(id)).toMatchObject({ failures: 0 });
    expect(await fireAndEnd('dead')).toEqual([]);
    expect(await fireAndEnd('cancelled')).toEqual([]);
    expect(await fireAndEnd('dead')).toMatchObject([{ functionId: id, name: 'often', failures: 2 }]);
    const paused = await read(id);
    expect(paused).toMatchObject({ failures: 2, nextAt: null, dueAt: null, fired: 5 });
    expect(paused.pausedAt).toBeInstanceOf(Date);
    expect(await repository().nearest()).toBeNull();
    // The same again is enough.
    expect(await put(id, members)).toMatchObject({ pausedAt: null, failures: 0, version: 2 });
    expect(await repository().nearest()).toBeGreaterThan(0);
    expect(await fireAndEnd('dead')).toEqual([]);
    // And it is noticed before another call is made, if nobody has told.
    await letPass(60_000);
    await repository().fire();
    await run(id, 'dead');
    await letPass(60_000);
    expect(await repository().fire()).toMatchObject({ fired: [], paused: [{ functionId: id, failures: 2 }] });
    expect(await queued()).toEqual([]);
  });

  it('forget the failures of calls from before they were put again', async () => {
    const id = await here.add();
    const members = { interval_ms: 60_000, overlap: 'allow', pause_after_failures: 1 };
    await put(id, members);
    for (let minute = 0; minute < 2; minute += 1) {
      await letPass(60_000);
      await repository().fire();
    }
    expect(await run(id, 'dead', 1)).toBe(1);
    expect(await repository().settle()).toHaveLength(1);
    await put(id, members);
    expect(await run(id, 'dead')).toBe(1);
    expect(await repository().settle()).toEqual([]);
    expect(await read(id)).toMatchObject({ pausedAt: null, failures: 0 });
  });

  it('settle all that have ended, however many', async () => {
    const functions = await Promise.all(upTo(3).map(() => here.add()));
    const names = upTo(50).map((number) => `s${number}`);
    for (const id of functions)
      for (const name of names) await put(id, { interval_ms: 60_000, overlap: 'allow' }, name);
    await letPass(60_000);
    while ((await repository().fire()).fired.length > 0);
    for (const id of functions) expect(await run(id, 'succeeded', 100)).toBe(50);
    const [before] = await listed(functions[0]!);
    await repository().settle();
    const open = await here.database.query('SELECT FROM schedule_firings WHERE status IS NULL');
    expect(open).toEqual([]);
    expect((await listed(functions[0]!))[0]).toEqual(before);
  });

  it('stay paused where they were resting, too, when their function may be called again', async () => {
    const id = await here.add();
    const members = { interval_ms: 60_000, pause_after_failures: 1 };
    await put(id, members);
    await letPass(60_000);
    await repository().fire();
    await here.database.query('UPDATE functions SET enabled = false WHERE id = $1', [id]);
    await letPass(60_000);
    expect((await repository().fire()).fired).toMatchObject([{ isResting: true }]);
    await here.database.query('UPDATE functions SET enabled = true WHERE id = $1', [id]);
    await run(id, 'dead');
    expect(await repository().settle()).toMatchObject([{ functionId: id }]);
    await repository().goOn([id]);
    expect(await read(id)).toMatchObject({ isResting: false, nextAt: null, dueAt: null, fired: 1 });
    expect(await repository().nearest()).toBeNull();
    expect(await put(id, members)).toMatchObject({ pausedAt: null });
    expect(await repository().nearest()).toBeGreaterThan(0);
  });

  it('rest with their function, miss nothing meanwhile, and go with it', async () => {
    const id = await here.add();
    await put(id);
    await put(id, { cron: '@daily' }, 'nightly');
    await here.database.query('UPDATE functions SET enabled = false WHERE id = $1', [id]);
    await letPass(2 * DAY_MS);
    expect((await repository().fire()).fired).toMatchObject([
      { call: undefined, missed: [], isResting: true },
      { call: undefined, missed: [], isResting: true },
    ]);
    expect(await repository().nearest()).toBeNull();
    expect(await repository().resting()).toEqual([{ functionId: id, isCallable: false }]);
    await repository().goOn([id]);
    expect(await repository().nearest()).toBeNull();
    await here.database.query('UPDATE functions SET enabled = true WHERE id = $1', [id]);
    await repository().goOn([id]);
    expect(await repository().nearest()).toBeGreaterThan(0);
    expect(await read(id)).toMatchObject({ isResting: false, missed: 0, fired: 0 });
    await here.database.query('UPDATE functions SET deleted_at = now() WHERE id = $1', [id]);
    await letPass(DAY_MS);
    await repository().fire();
    expect(await firings(id)).toEqual([]);
    await here.database.query('DELETE FROM functions WHERE id = $1', [id]);
    expect(await listed(id)).toEqual([]);
  });

  it('keep their next time through a change that leaves their times alone', async () => {
    const id = await here.add();
    const first = await put(id);
    await letPass(20_000);
    const { anchorAt, nextAt } = await read(id);
    const same = await repository().write({ functionId: id, name: 'often' }, spec(), ANEW, 'ci');
    expect(same).toMatchObject({ outcome: 'same', row: { version: 1, updatedBy: null } });
    const changed = await put(id, { interval_ms: 60_000, payload: 'other' });
    expect(changed).toMatchObject({ version: 2, anchorAt, nextAt });
    const jittery = await put(id, { interval_ms: 60_000, jitter_ms: 59_000 });
    expect(jittery.nextAt).toEqual(nextAt);
    // Nothing of a longer one is left, by which it would be late.
    expect((await put(id, { interval_ms: 60_000 })).dueAt).toEqual(nextAt);
    const anew = await put(id, { interval_ms: 30_000 });
    expect(anew.nextAt!.getTime() - anew.anchorAt.getTime()).toBe(30_000);
    expect(anew.anchorAt >= first.anchorAt).toBe(true);
    expect(await put(id, { interval_ms: 30_000, enabled: false })).toMatchObject({ nextAt: null, dueAt: null });
    expect(await repository().nearest()).toBeNull();
    const back = await put(id, { interval_ms: 30_000 });
    expect((back.nextAt!.getTime() - anew.anchorAt.getTime()) % 30_000).toBe(0);
  });

  it('fire within their jitter', async () => {
    const id = await here.add();
    const waits = [];
    for (let count = 0; count < 20; count += 1) {
      const { nextAt, dueAt } = await put(id, { interval_ms: 60_000, jitter_ms: 50_000 }, `s${count}`);
      waits.push(dueAt!.getTime() - nextAt!.getTime());
    }
    expect(Math.min(...waits)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...waits)).toBeLessThanOrEqual(50_000);
    expect(new Set(waits).size).toBeGreaterThan(5);
  });

  it('are as many as there may be, also where many come at once', async () => {
    const [one, other] = [await here.add(), await here.add()];
    const make = (functionId: FunctionId, name: string) =>
      repository({ perFunction: 3, most: 5 }).write({ functionId, name }, spec(), ANEW, null);
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, (_, index) => make(one, `s${index}`)));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    expect(await listed(one)).toHaveLength(3);
    await make(other, 'a');
    await make(other, 'b');
    await expect(make(other, 'c')).rejects.toMatchObject({ code: 'too_many_schedules' });
    // Of those who make the same one at once, one makes it.
    const twins = await Promise.all(
      upTo(4).map(() => repository().write({ functionId: other, name: 'twin' }, spec(), ANEW, null)),
    );
    expect(twins.map(({ outcome }) => outcome).toSorted()).toEqual(['made', 'same', 'same', 'same']);
    const [there] = await listed(one);
    await expect(make(one, there!.name)).resolves.toMatchObject({ outcome: 'same' });
    await expect(make('aaaaaaaaaaaaaaaa', 'a')).rejects.toMatchObject({ code: 'function_not_found' });
  });

  it('keep the last runs, with what became of them after their calls are gone', async () => {
    const id = await here.add();
    await put(id);
    await here.database.query(
      `INSERT INTO schedule_firings (function_id, schedule, scheduled_for, invocation_id, status)
       SELECT $1, 'often', now() - number * interval '1 hour', gen_random_uuid(), 'succeeded'
       FROM generate_series(1, 150) AS number`,
      [id],
    );
    await letPass(60_000);
    await repository().fire();
    expect(await firings(id)).toHaveLength(100);
    await run(id, 'dead');
    await repository().settle();
    await here.database.query('TRUNCATE invocations');
    const [last] = await firings(id);
    expect(last).toMatchObject({ status: 'dead', startedAt: null });
    expect(last!.endedAt).toBeInstanceOf(Date);
  });
});

/** The times that were fired, in steps of the interval. */
async function steps(id: FunctionId, intervalMs: number): Promise<number[]> {
  const times = (await firings(id)).map(({ scheduledFor }) => scheduledFor.getTime()).toReversed();
  return times.map((time) => (time - (times[0] ?? time)) / intervalMs);
}

const upTo = (count: number) => Array.from({ length: count }, (_, index) => index);

describe('managers', () => {
  it('fire each time of a schedule once, three of them, as others come and go', async () => {
    const id = await here.add();
    const three = [TestScheduler.start(), TestScheduler.start(), TestScheduler.start()];
    await put(id, { interval_ms: 1_000, overlap: 'allow' });
    await vi.waitFor(async () => expect((await firings(id)).length).toBeGreaterThan(2), PATIENCE);
    await three[0]!.stop();
    TestScheduler.start();
    await vi.waitFor(async () => expect((await firings(id)).length).toBeGreaterThan(4), PATIENCE);
    const { fired, missed } = await read(id);
    const done = await steps(id, 1_000);
    expect(missed).toBe(0);
    expect(done).toEqual(upTo(done.length));
    expect(done.length).toBeGreaterThanOrEqual(fired);
    expect((await here.database.query('SELECT FROM invocations')).length).toBe((await firings(id)).length);
    const others = managers.flatMap((manager) => manager.fired.map(({ call }) => call?.id));
    expect(new Set(others).size).toBe(others.length);
  });

  it.each([3_600_000, -3_600_000])('fire by the database’s clock, with their own wrong by %i ms', async (ms) => {
    const id = await here.add();
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + ms });
    const other = TestScheduler.start();
    await put(id, { interval_ms: 1_000, overlap: 'allow' });
    await vi.waitFor(async () => expect(await firings(id)).toHaveLength(2), PATIENCE);
    // And as it is set right.
    vi.useRealTimers();
    await vi.waitFor(async () => expect((await firings(id)).length).toBeGreaterThan(3), PATIENCE);
    const done = await steps(id, 1_000);
    expect(done).toEqual(upTo(done.length));
    const lags = other.fired.map(({ call }) => call?.lagMs ?? 0);
    expect(Math.max(...lags)).toBeLessThan(60_000);
    const [clock] = await here.database.query<{ now: Date }>('SELECT now() AS now');
    for (const { scheduledFor } of await firings(id)) expect(scheduledFor <= clock!.now).toBe(true);
  });

  it('fire what waits for an earlier call as soon as that has ended', async () => {
    const id = await here.add();
    const manager = TestScheduler.start();
    await put(id, { interval_ms: 1_000, overlap: 'queue' });
    await vi.waitFor(async () => expect(await read(id)).toMatchObject({ isHeld: true, fired: 1 }), PATIENCE);
    await run(id, 'succeeded');
    manager.signals.scheduledEnded();
    await vi.waitFor(async () => expect(await read(id)).toMatchObject({ fired: 2 }), PATIENCE);
  });

  it('let schedules go on when their function may be called again', async () => {
    const id = await here.add();
    TestScheduler.start();
    await put(id, { interval_ms: 1_000, overlap: 'allow' });
    await here.database.query('UPDATE functions SET enabled = false, version = version + 1 WHERE id = $1', [id]);
    await vi.waitFor(async () => expect(await read(id)).toMatchObject({ isResting: true }), PATIENCE);
    const { fired } = await read(id);
    await here.database.query('UPDATE functions SET enabled = true, version = version + 1 WHERE id = $1', [id]);
    await vi.waitFor(async () => expect((await read(id)).fired).toBeGreaterThan(fired), PATIENCE);
    expect(await read(id)).toMatchObject({ isResting: false, missed: 0 });
  });

  it('ask nothing of the database while a thousand schedules wait', async () => {
    const functions = await Promise.all(Array.from({ length: 10 }, () => here.add()));
    await here.database.query(
      `INSERT INTO schedules (function_id, name, cron, timezone, body, payload_bytes, overlap, catch_up_ms, jitter_ms,
         pause_after_failures, enabled, priority, retry, max_age_ms, callback_format, anchor_at, next_at, due_at)
       SELECT id, 's' || number, '0 3 * * *', 'UTC', '{"payload":""}', 0, 'skip', 0, 0, 0, true, 1,
         '{"maxAttempts":1,"on":[],"backoffMs":0}', 60000, 'plain', now(), now() + number * interval '1 hour',
         now() + number * interval '1 hour'
       FROM unnest($1::text[]) AS id, generate_series(1, 100) AS number`,
      [functions],
    );
    const manager = TestScheduler.start();
    await vi.waitFor(() => expect(manager.database.asked).toBeGreaterThanOrEqual(3), PATIENCE);
    // It has looked around, twice where it heard that it may listen only after that.
    const before = manager.database.asked;
    await here.database.query('SELECT pg_sleep(3)');
    expect(manager.database.asked - before).toBeLessThanOrEqual(3);
  });
});
