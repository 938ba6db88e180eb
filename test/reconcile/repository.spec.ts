import { randomUUID } from 'node:crypto';
import { loadConfig } from '#libs/config/load-config.js';
import { dataSourceOptions, openDataSource } from '#libs/database/data-source.js';
import type { Database } from '#libs/database/database.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { FunctionEntity } from '../../apps/manager/src/functions/function.entity.js';
import { type Claim, FunctionRepository, type Outcome } from '../../apps/manager/src/functions/function.repository.js';
import { InstallationRepository } from '../../apps/manager/src/orchestrator/installation.repository.js';
import { DemandRepository } from '../../apps/manager/src/scaling/demand.repository.js';
import { createSharedDatabase } from '../support/postgres.js';
import { Installation, newFunction, silent } from './installation.js';

const FAULT = {
  code: 'worker_crashed',
  message: 'It ended.',
  terminal: false,
  at: '2026-01-01T00:00:00.000Z',
} as const;

const READY: Outcome = {
  phase: 'running',
  reason: null,
  lastFault: FAULT,
  endpoints: [{ replica: 'one', address: { kind: 'tcp', host: '127.0.0.1', port: 1 } }],
  primaryReplica: 'one',
  hostPort: 1,
  observedGeneration: 1,
  provisional: false,
  failures: 1,
  backoffMs: null,
  nextMs: null,
  takesOver: false,
  abandon: false,
};

let here: Installation;

beforeAll(async () => {
  here = await Installation.open(await createSharedDatabase());
});
afterAll(() => here.close());

describe('FunctionRepository', () => {
  const repository = () => here.repository;
  afterEach(() => here.reset());

  const claimOne = async (leaseMs = 60_000): Promise<Claim> => {
    const claims = await repository().claim(10, leaseMs);
    expect(claims).toHaveLength(1);
    return claims[0]!;
  };
  const due = async () => (await repository().claim(10, 60_000)).map(({ row }) => row.id);

  it('makes a function due from the moment it is inserted, with its first revision', async () => {
    const wanted = newFunction();
    const row = await repository().insert(wanted);
    expect(row).toMatchObject({ phase: 'creating', generation: 1, observedGeneration: 0, failures: 0, endpoints: [] });
    expect(await repository().revision(row.id, 1)).toMatchObject({ code: wanted.code, functionName: 'handle' });
    expect(await due()).toEqual([row.id]);
  });

  it('reads the same row in every way', async () => {
    const id = await here.add();
    const { row } = await claimOne();
    expect(row).toStrictEqual(await here.row(id));
    expect(await repository().markDeleted(id)).toStrictEqual(await here.row(id));
    expect(row.provisionalUntil).toBeInstanceOf(Date);
  });

  it('hands out what was wished for before what is only to be looked at', async () => {
    const wellSeen = await here.add();
    await repository().record(await claimOne(), READY);
    const uploaded = await here.add();
    await here.database.query(
      `UPDATE functions SET reconcile_at = now() - CASE WHEN id = $1 THEN 60 ELSE 0 END * interval '1 second'`,
      [wellSeen],
    );
    expect((await repository().claim(1, 60_000))[0]!.row.id).toBe(uploaded);
    expect(await due()).toEqual([wellSeen]);
  });

  it('hands nothing to a manager whose settings are no longer the newest, and all to the one with those', async () => {
    const installation = new InstallationRepository(here.database, silent);
    await installation.takeSettings('newer', 'memory');
    const id = await here.add();
    expect(await repository().claim(1, 60_000, { settingsSha256: 'older' })).toEqual([]);
    expect(await repository().claim(1, 60_000, { settingsSha256: 'newer' })).toMatchObject([{ row: { id } }]);
    const demands = new DemandRepository(here.database);
    for (const settingsSha256 of ['older', 'newer']) {
      const lease = { token: randomUUID(), ms: 60_000, settingsSha256 };
      const granted = settingsSha256 === 'newer' ? lease.token : null;
      const uploaded = await repository().insert(newFunction(), lease);
      expect(uploaded.leaseToken).toBe(granted);
      await here.database.query('UPDATE functions SET replicas = 0, lease_until = NULL WHERE id = $1', [uploaded.id]);
      const woken = await demands.wake(uploaded.id, { ...lease, token: randomUUID() });
      expect(woken!.row.leaseUntil !== null).toBe(granted !== null);
    }
    await installation.takeSettings('', 'memory');
  });

  it('hands each due row to one of many managers that ask at once', async () => {
    const ids = await Promise.all(Array.from({ length: 30 }, () => here.add()));
    const claimed = await Promise.all(Array.from({ length: 12 }, () => repository().claim(4, 60_000)));
    const got = claimed.flat().map(({ row }) => row.id);
    expect(new Set(got).size).toBe(got.length);
    expect([...got, ...(await due()), ...(await due()), ...(await due())].toSorted()).toEqual(ids.toSorted());
  });

  it('hands out those that are due longest first', async () => {
    const ids = [await here.add(), await here.add(), await here.add()];
    await here.database.query(
      `UPDATE functions SET reconcile_at = now() - array_position($1::text[], id) * interval '1 second'`,
      [ids],
    );
    expect((await repository().claim(1, 60_000))[0]!.row.id).toBe(ids[2]);
  });

  it('hands a row out again once its lease has ended, and not before', async () => {
    await here.add();
    const { row } = await claimOne(120);
    expect(await due()).toEqual([]);
    await expect.poll(due, { timeout: 15_000 }).toEqual([row.id]);
  });

  it('writes nothing for a late finisher whose lease was taken', async () => {
    const id = await here.add();
    const late = await claimOne(0);
    const current = await claimOne();
    const before = await here.row(id);
    await repository().record(late, READY);
    await repository().postpone(late, FAULT, 1);
    await repository().release(late);
    await repository().purge(late);
    expect(await repository().renew(late, 1)).toBe(false);
    expect(await here.row(id)).toEqual(before);
    expect(await repository().renew(current, 60_000)).toBe(true);
  });

  it('gives the lease back with what a step found', async () => {
    const id = await here.add();
    await repository().record(await claimOne(), { ...READY, nextMs: 60_000, backoffMs: 30_000 });
    const row = await here.row(id);
    expect(row).toMatchObject({ phase: 'running', failures: 1, hostPort: 1, lastFault: FAULT, leaseToken: null });
    expect(row.endpoints).toEqual(READY.endpoints);
    expect(row.provisionalUntil).toBeNull();
    const [now] = await here.database.query<{ now: Date }>('SELECT now()');
    expect(row.reconcileAt!.getTime() - now!.now.getTime()).toBeGreaterThan(55_000);
    expect(row.notBefore!.getTime() - now!.now.getTime()).toBeGreaterThan(25_000);
    expect(await due()).toEqual([]);
  });

  it('writes what many steps found at once, each to its own row and under its own lease', async () => {
    const ids = [await here.add(), await here.add(), await here.add()].toSorted();
    const claims = await repository().claim(10, 60_000);
    const [lost, ...held] = claims.toSorted((a, b) => a.row.id.localeCompare(b.row.id));
    await repository().release(lost!);
    const steps = [lost!, ...held].map((claim, hostPort) => repository().record(claim, { ...READY, hostPort }));
    await Promise.all(steps);
    const rows = await Promise.all(ids.map((id) => repository().find(id)));
    expect(rows.map((row) => row?.hostPort)).toEqual([0, 1, 2]);
    expect(rows.map((row) => row?.phase)).toEqual(['creating', 'running', 'running']);
  });

  it('reads many revisions at once, each as it was uploaded', async () => {
    const wanted = [newFunction(), newFunction(), newFunction()];
    for (const one of wanted) await repository().insert(one);
    const asked = [...wanted.map(({ id }) => ({ id, number: 1 })), { id: wanted[0]!.id, number: 2 }];
    const read = await Promise.all(asked.map(({ id, number }) => repository().revision(id, number)));
    expect(read.map((one) => one?.codeSha256)).toEqual([...wanted.map(({ codeSha256 }) => codeSha256), undefined]);
  });

  it('waits for the disk with what its caller is told of, and with nothing that a crash may take back', async () => {
    const waits: string[] = [];
    const inTransaction = {
      query: (sql: string, parameters: unknown[]) =>
        here.source.transaction(async (manager) => {
          const result: unknown = await manager.query(sql, parameters);
          const [setting] = await manager.query<{ synchronous_commit: string }[]>('SHOW synchronous_commit');
          waits.push(setting!.synchronous_commit);
          return Array.isArray(result) && Array.isArray(result[0]) ? (result[0] as unknown) : result;
        }),
    } as unknown as Database;
    const observed = new FunctionRepository(inTransaction);
    const demands = new DemandRepository(inTransaction);
    const id = await here.add();
    const [upload] = await observed.claim(10, 60_000);
    await observed.record(upload!, { ...READY, nextMs: 0 });
    expect(waits).toEqual(['off', 'on']);
    waits.length = 0;
    const [claim] = await observed.claim(10, 60_000);
    await observed.record(claim!, { ...READY, phase: 'idle' });
    await here.database.query('UPDATE functions SET replicas = 0 WHERE id = $1', [id]);
    expect(await demands.wake(id)).toBeDefined();
    expect(waits).toEqual(['off', 'off', 'off']);
    await observed.markDeleted(id);
    expect(waits.at(-1)).toBe('on');
  });

  it('moves the start of a phase only when the phase changes', async () => {
    const id = await here.add();
    await repository().record(await claimOne(), { ...READY, nextMs: 0 });
    const { phaseSince } = await here.row(id);
    await repository().record(await claimOne(), { ...READY, nextMs: 0 });
    expect((await here.row(id)).phaseSince).toEqual(phaseSince);
    await repository().record(await claimOne(), { ...READY, phase: 'error' });
    expect((await here.row(id)).phaseSince.getTime()).toBeGreaterThan(phaseSince.getTime());
  });

  it.each(['record', 'postpone', 'release'] as const)(
    'keeps the newer request when one arrives mid-reconcile: %s',
    async (how) => {
      const id = await here.add();
      const claim = await claimOne();
      await repository().requestReconcile(id);
      expect(await due()).toEqual([]);
      if (how === 'record') await repository().record(claim, { ...READY, nextMs: 60_000 });
      if (how === 'postpone') await repository().postpone(claim, FAULT, 60_000);
      if (how === 'release') await repository().release(claim);
      expect(await due()).toEqual([id]);
    },
  );

  it.each(['record', 'postpone'] as const)('keeps a removal that arrives during a step: %s', async (how) => {
    const id = await here.add();
    const claim = await claimOne();
    const removed = await repository().markDeleted(id);
    expect(removed).toMatchObject({ phase: 'deleting', endpoints: [], failures: 0 });
    if (how === 'record') await repository().record(claim, { ...READY, nextMs: 60_000 });
    else await repository().postpone(claim, FAULT, 60_000);
    const row = await here.row(id);
    expect(row).toMatchObject({ phase: 'deleting', endpoints: [], deletedAt: removed!.deletedAt });
    expect(row.phaseSince).toEqual(removed!.phaseSince);
    expect(await due()).toEqual([id]);
  });

  it('keeps a function that is to be tried anew from what an older step has found', async () => {
    const id = await here.add();
    const claim = await claimOne();
    await here.database.query(
      `UPDATE functions SET phase = 'creating', failures = 0, not_before = NULL, generation = generation + 1 WHERE id = $1`,
      [id],
    );
    await repository().record(claim, { ...READY, phase: 'error', reason: FAULT, failures: 4, backoffMs: 60_000 });
    const row = await here.row(id);
    expect(row).toMatchObject({ phase: 'creating', failures: 0, notBefore: null, reason: null });
  });

  it('removes twice as it removes once', async () => {
    const id = await here.add();
    const first = await repository().markDeleted(id);
    const second = await repository().markDeleted(id);
    expect(second).toMatchObject({ deletedAt: first!.deletedAt, generation: 2, phaseSince: first!.phaseSince });
    expect(await repository().markDeleted('aaaaaaaaaaaaaaaa')).toBeNull();
  });

  it('waits as long as it is told to after a step that could not be made', async () => {
    const id = await here.add();
    await repository().postpone(await claimOne(), FAULT, 150);
    expect(await due()).toEqual([]);
    expect(await here.row(id)).toMatchObject({ reason: FAULT, failures: 0, postponed: 1, phase: 'creating' });
    await repository().requestReconcile(id);
    await repository().record(await claimOne(), READY);
    expect(await here.row(id)).toMatchObject({ postponed: 0, phase: 'running' });
    await repository().requestReconcile(id);
    await repository().postpone(await claimOne(), FAULT, 150);
    await expect.poll(due, { timeout: 15_000 }).toEqual([id]);
  });

  it('turns an upload whose time is over into a removal', async () => {
    const id = await here.add();
    await repository().record(await claimOne(), {
      ...READY,
      phase: 'creating',
      endpoints: [],
      provisional: true,
      abandon: true,
      nextMs: 0,
    });
    expect(await here.row(id)).toMatchObject({ phase: 'deleting', endpoints: [] });
    expect((await here.row(id)).deletedAt).not.toBeNull();
  });

  it('looks at every function that may have changed unseen, and not at those seen asleep', async () => {
    const [running, asleep, falling, woken, leaving] = [
      await here.add(),
      await here.add(),
      await here.add(),
      await here.add(),
      await here.add(),
    ];
    for (const claim of await repository().claim(10, 60_000)) {
      const nextMs = claim.row.id === leaving ? 35_000 : null;
      const sleeps = claim.row.id !== running;
      await repository().record(claim, sleeps ? { ...READY, phase: 'idle', endpoints: [], nextMs } : READY);
    }
    const asleepOnce = [asleep, falling, woken, leaving];
    await here.database.query('UPDATE functions SET replicas = 0 WHERE id = ANY ($1)', [asleepOnce]);
    await here.database.query(`UPDATE functions SET phase = 'running' WHERE id = $1`, [falling]);
    await here.database.query('UPDATE functions SET generation = generation + 1 WHERE id = $1', [woken]);
    await repository().requestReconcileOfAll();
    expect((await due()).toSorted()).toEqual([running, falling, woken, leaving].toSorted());
    await repository().requestReconcile(asleep);
    expect(await due()).toEqual([asleep]);
  });

  it('changes many functions at once, in any order, while others do the same', async () => {
    const demands = new DemandRepository(here.database);
    const ids = await Promise.all(Array.from({ length: 200 }, () => here.add()));
    const { functions: defaults } = loadConfig({});
    const called = (order: readonly FunctionId[]) => order.map((id) => ({ id, callsNow: 1, callsLately: 1 }));
    const orders = [ids, ids.toReversed(), ids.toSorted(), ids.toSorted().toReversed()];
    await demands.record(called(ids));
    for (let round = 0; round < 15; round += 1) {
      await here.database.query(`UPDATE demands SET seen_at = now() - interval '1 hour'`);
      await here.database.query(
        `UPDATE functions SET phase = 'running', provisional_until = NULL, replicas = 1,
           last_used_at = now() - interval '1 hour'`,
      );
      await Promise.all([
        ...orders.flatMap((order) => [demands.touch(order), demands.record(called(order))]),
        ...Array.from({ length: 4 }, () => repository().requestReconcileOfAll()),
        demands.putToSleep(),
        ...[256, 512].map((memoryMiB) => repository().applyDefaults({ ...defaults, memoryMiB }, '')),
        demands.forgetStale(),
      ]);
    }
    expect(await due()).toHaveLength(10);
  });

  it('repeats a statement that the database undid since it and another waited for each other', async () => {
    const [first = '', second = ''] = (await Promise.all([here.add(), here.add()])).toSorted();
    const use = 'UPDATE functions SET last_used_at = now() WHERE id = $1';
    const waiting = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
    const touched = await here.database.transaction(async (other) => {
      // The one whose time is over first finds the deadlock, and is undone.
      await other(`SET LOCAL deadlock_timeout = '1min'`);
      await other(use, [second]);
      const touch = { over: new DemandRepository(here.database).touch([first, second]) };
      await vi.waitFor(async () => expect(await here.database.query(waiting)).toHaveLength(1));
      await other(use, [first]);
      return touch;
    });
    await expect(touched.over).resolves.toBeUndefined();
  });

  it('forgets code and revisions with the function', async () => {
    const id = await here.add();
    await repository().purge(await claimOne());
    expect(await repository().revision(id, 1)).toBeNull();
    expect(await repository().find(id)).toBeNull();
  });

  it('lets one manager at a time do what must be done once', async () => {
    const inside = Promise.withResolvers<void>();
    const leave = Promise.withResolvers<void>();
    const first = repository().exclusively(42, async () => {
      inside.resolve();
      await leave.promise;
    });
    await inside.promise;
    expect(await repository().exclusively(42, () => Promise.reject(new Error('two at once')))).toBe(false);
    leave.resolve();
    expect(await first).toBe(true);
    await expect(repository().exclusively(42, () => Promise.reject(new Error('it failed')))).rejects.toThrow();
    expect(await repository().exclusively(42, () => Promise.resolve())).toBe(true);
  });
});

describe('Migrations', () => {
  it('are made once when many managers start at once on an empty database', async () => {
    const url = await createSharedDatabase();
    const options = dataSourceOptions({ url, poolSize: 2, entities: [FunctionEntity], logger: silent });
    const sources = await Promise.all(Array.from({ length: 4 }, () => openDataSource(options, silent)));
    try {
      const query = (sql: string) => sources[0]!.query<{ count: string }[]>(sql);
      const names = `SELECT count(*) FROM migrations GROUP BY name`;
      const times = await query(names);
      expect(times).not.toEqual([]);
      for (const once of times) expect(once).toEqual({ count: '1' });
      expect(await query('SELECT count(*) FROM installation')).toEqual([{ count: '1' }]);
      const locks = `SELECT count(*) FROM pg_locks JOIN pg_database ON database = pg_database.oid
        WHERE locktype = 'advisory' AND datname = current_database()`;
      expect(await query(locks)).toEqual([{ count: '0' }]);
    } finally {
      await Promise.all(sources.map((source) => source.destroy()));
    }
  });
});
