import { randomBytes, randomUUID, randomUUIDv7 } from 'node:crypto';
import type { InvocationsConfig } from '#libs/config/config.js';
import { loadConfig } from '#libs/config/load-config.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { partitionOf } from '../../apps/manager/src/invocations/days.js';
import {
  type CallbackRoom,
  type Claimed,
  type Enqueued,
  EXPIRED,
  InvocationRepository,
  type NewInvocation,
} from '../../apps/manager/src/invocations/invocation.repository.js';
import { InvocationStorage } from '../../apps/manager/src/invocations/invocation.storage.js';
import { Installation } from '../reconcile/installation.js';
import { createSharedDatabase } from '../support/postgres.js';

const LEASE_MS = 60_000;
const ALWAYS = { maxAttempts: 3, on: ['error', 'timeout', 'crash'], backoffMs: 1_000 } as const;
const { invocations: CONFIG } = loadConfig({});

let here: Installation;
let storage: InvocationStorage;
beforeAll(async () => {
  here = await Installation.open(await createSharedDatabase());
  storage = new InvocationStorage(here.database);
});
afterAll(() => here.close());
afterEach(async () => {
  await here.database.query('TRUNCATE invocations, invocation_queues, invocation_keys');
  await here.reset();
});

/** As another manager. */
const repository = (config: Partial<InvocationsConfig> = {}) =>
  new InvocationRepository(here.database, { ...CONFIG, ...config });

function call(functionId: FunctionId, overrides: Partial<NewInvocation> = {}): NewInvocation {
  return {
    id: randomUUIDv7(),
    functionId,
    body: Buffer.from('{"payload":"x"}'),
    payloadBytes: 1,
    priority: 1,
    delayMs: 0,
    notBefore: null,
    maxAgeMs: 60_000,
    retry: ALWAYS,
    choice: null,
    revision: 1,
    requestId: 'a-request',
    createdBy: null,
    callbackUrl: null,
    callbackFormat: 'plain',
    http: null,
    key: null,
    digest: Buffer.from('digest'),
    token: null,
    ...overrides,
  };
}

async function add(functionId: FunctionId, count: number, overrides: Partial<NewInvocation> = {}): Promise<string[]> {
  const calls = Array.from({ length: count }, () => call(functionId, overrides));
  const all = repository();
  const outcomes = await Promise.all(calls.map((one) => all.enqueue(one)));
  expect(outcomes.map(({ outcome }) => outcome)).toEqual(calls.map(() => 'added'));
  return calls.map(({ id }) => id);
}

const claim = (functionId: FunctionId, most: number, leaseMs = LEASE_MS) =>
  repository().claim([{ functionId, most }], leaseMs);
const RESULT = Buffer.from('{"result":1}');
const ended = ({ id, token }: Claimed) =>
  repository().complete({ id, token, status: 'succeeded', revision: 1, result: RESULT, resultBytes: RESULT.length });
const claimCallbacks = (room: Partial<CallbackRoom> = {}) =>
  repository().claimCallbacks({ most: 10, perFunction: 10, underWay: new Map(), ...room }, LEASE_MS);
const statusOf = async (id: string) => (await repository().find(id))?.status;

/** The rows, and what is counted of them, by function. */
async function queues(): Promise<{ counted: Record<string, number>; there: Record<string, number> }> {
  const of = (rows: { id: string; calls: number }[]) => Object.fromEntries(rows.map(({ id, calls }) => [id, calls]));
  const counted = of(
    await here.database.query('SELECT function_id AS id, calls FROM invocation_queues WHERE (calls, bytes) <> (0, 0)'),
  );
  const there = of(
    await here.database.query(
      `SELECT function_id AS id, count(*)::integer AS calls FROM invocations
       WHERE status IN ('waiting', 'running') GROUP BY function_id`,
    ),
  );
  return { counted, there };
}

describe('calls for later in the database', () => {
  it('keep a call that begins at once for the manager that has kept it', async () => {
    const id = await here.add();
    const token = randomUUID();
    const [begun] = await add(id, 1, { token });
    expect(await repository().claim([{ functionId: id, most: 5 }], LEASE_MS)).toEqual([]);
    expect(await repository().find(begun!)).toMatchObject({ status: 'running', attempt: 1 });
    expect([...(await repository().renew([{ id: begun!, token }], LEASE_MS)).keys()]).toEqual([begun]);
    expect(await repository().complete({ id: begun!, token, status: 'succeeded', revision: 1 })).toBe(true);
    const lost = await add(id, 1, { token: randomUUID() });
    await here.database.query(`UPDATE invocations SET lease_until = now() - interval '1 second'`);
    await repository().upcoming(0);
    const claims = await repository().claim([{ functionId: id, most: 5 }], LEASE_MS);
    expect(claims).toMatchObject([{ id: lost[0], attempt: 1 }]);
  });

  it('are kept by day, and by nobody’s fault in the default partition', async () => {
    const today = partitionOf(new Date());
    const id = await here.add();
    const [first] = await add(id, 1);
    expect(await here.database.query('SELECT id FROM invocations_others')).toEqual([{ id: first }]);
    // Its rows keep a partition of their day from being made, and are as good.
    expect(await storage.ensure([today.day])).toMatch('invocations_others');
    await claim(id, 1).then(([one]) => ended(one!));
    await here.database.query('TRUNCATE invocations');
    expect(await storage.ensure([today.day])).toBeUndefined();
    expect(await storage.ensure([today.day])).toBeUndefined();
    expect((await storage.partitions()).map(({ name }) => name)).toEqual([today.name]);
    const [second] = await add(id, 1);
    expect(await here.database.query(`SELECT id FROM ${today.name}`)).toEqual([{ id: second }]);
  });

  it('are each claimed once, however many claim at once', async () => {
    const id = await here.add();
    const calls = await add(id, 300);
    const claims: Claimed[] = [];
    const worker = async (): Promise<void> => {
      const all = repository();
      for (;;) {
        const some = await all.claim([{ functionId: id, most: 7 }], LEASE_MS);
        if (some.length === 0) return;
        claims.push(...some);
      }
    };
    await Promise.all(Array.from({ length: 8 }, worker));
    // One that finds all others locked stops early.
    await worker();
    expect(claims.map((one) => one.id).toSorted()).toEqual(calls.toSorted());
    expect(claims.every(({ attempt }) => attempt === 1)).toBe(true);
    await Promise.all(claims.map(ended));
    expect(await queues()).toEqual({ counted: {}, there: {} });
  });

  it('begin with those of a high priority, then with those that are due for the longest', async () => {
    const id = await here.add();
    const [low] = await add(id, 1, { priority: 0 });
    const [second] = await add(id, 1);
    // Who says a time that has passed gets ahead of nobody.
    const [third] = await add(id, 1, { notBefore: new Date(0) });
    const [first] = await add(id, 1);
    await here.database.query(`UPDATE invocations SET due_at = due_at - interval '1 minute' WHERE id = $1`, [first]);
    const [high] = await add(id, 1, { priority: 2 });
    await add(id, 1, { priority: 2, delayMs: 60_000 });
    const order: string[] = [];
    for (let turn = 0; turn < 6; turn += 1) order.push(...(await claim(id, 1)).map((one) => one.id));
    expect(order).toEqual([high, first, second, third, low]);
  });

  it('of a function with very many don’t keep those of another waiting', async () => {
    const [many, few] = [await here.add(), await here.add()];
    await add(many, 500);
    const [only] = await add(few, 1);
    const claims = await repository().claim(
      [
        { functionId: many, most: 10 },
        { functionId: few, most: 10 },
      ],
      LEASE_MS,
    );
    expect(claims.filter(({ functionId }) => functionId === many)).toHaveLength(10);
    expect(claims.filter(({ functionId }) => functionId === few).map((one) => one.id)).toEqual([only]);
  });

  it('are claimed anew when their lease ends, and whoever had it before writes nothing', async () => {
    const id = await here.add();
    const [only] = await add(id, 1);
    const [former] = await claim(id, 1, 1);
    await expect.poll(() => repository().upcoming(0)).toContainEqual({ functionId: id, inMs: 0 });
    const [later] = await claim(id, 1);
    expect(later).toMatchObject({ id: only, attempt: 1 });
    expect(await repository().renew([former!], LEASE_MS)).toEqual(new Map());
    expect(await ended(former!)).toBe(false);
    expect(await statusOf(only!)).toBe('running');
    expect(await ended(later!)).toBe(true);
    expect(await ended(later!)).toBe(false);
    expect(await statusOf(only!)).toBe('succeeded');
    expect(await queues()).toEqual({ counted: {}, there: {} });
  });

  it('stay whose they are while the lease is renewed', async () => {
    const id = await here.add();
    await add(id, 1);
    const [mine] = await claim(id, 1, 2_000);
    expect(await repository().renew([mine!], LEASE_MS)).toEqual(new Map([[mine!.id, { isCancelled: false }]]));
    await here.database.query('SELECT pg_sleep(2.1)');
    await repository().upcoming(0);
    expect(await claim(id, 1)).toEqual([]);
    expect(await ended(mine!)).toBe(true);
  });

  it('that end one manager after the other are given up', async () => {
    const id = await here.add();
    const [poison] = await add(id, 1);
    const lose = async (times: number) => {
      for (let manager = 0; manager < times; manager += 1) {
        expect(await claim(id, 1)).toHaveLength(1);
        await here.database.query(`UPDATE invocations SET lease_until = now() - interval '1 second'`);
        await repository().upcoming(0);
      }
    };
    await lose(9);
    // One that lives to tell of its attempt shows that they were not to blame.
    const [survived] = await claim(id, 1);
    await repository().complete({ ...survived!, status: 'waiting', inMs: 0, error: { code: 'oh', detail: 'oh' } });
    await lose(9);
    expect(await statusOf(poison!)).toBe('waiting');
    await lose(1);
    expect(await repository().find(poison!)).toMatchObject({ status: 'dead', error: { code: 'attempt_lost' } });
    expect(await queues()).toEqual({ counted: {}, there: {} });
  });

  it('fill a queue up to its bound exactly, and no further', async () => {
    const [id, other] = [await here.add(), await here.add()];
    const managers = Array.from({ length: 4 }, () => repository({ perFunction: 50 }));
    // From the first one on there is a row to wait for.
    await managers[0]!.enqueue(call(id));
    const outcomes = await Promise.all(
      Array.from({ length: 200 }, (_, index) => managers[index % 4]!.enqueue(call(id))),
    );
    expect(outcomes.filter(({ outcome }) => outcome === 'added')).toHaveLength(49);
    expect(outcomes.filter(({ outcome }) => outcome === 'function_full')).toHaveLength(151);
    expect(await managers[0]!.enqueue(call(other))).toMatchObject({ outcome: 'added' });
    expect(await repository({ most: 51 }).enqueue(call(other))).toEqual({ outcome: 'all_full' });
    expect(await repository({ mostBytes: 200 }).enqueue(call(other))).toEqual({ outcome: 'all_full' });
    const large = call(other, { body: randomBytes(2_000) });
    expect(await repository({ bytesPerFunction: 1_000 }).enqueue(large)).toEqual({ outcome: 'function_full' });
    const batch = repository({ bytesPerFunction: 1_000 });
    const together = [call(other), large, call(other)].map((one) => batch.enqueue({ ...one, id: randomUUIDv7() }));
    expect((await Promise.all(together)).map(({ outcome }) => outcome)).toEqual(['added', 'function_full', 'added']);
    const claims = await claim(id, 10);
    await Promise.all(claims.map(ended));
    const again = await Promise.all(Array.from({ length: 11 }, () => managers[1]!.enqueue(call(id))));
    expect(again.filter(({ outcome }) => outcome === 'added')).toHaveLength(10);
  });

  it('count once for each key, whichever managers they come to', async () => {
    const [id, other] = [await here.add(), await here.add()];
    const managers = Array.from({ length: 4 }, () => repository());
    const key = 'order-1';
    const calls = Array.from({ length: 40 }, () => call(id, { key }));
    const outcomes = await Promise.all(calls.map((one, index) => managers[index % 4]!.enqueue(one)));
    const added = outcomes.findIndex(({ outcome }) => outcome === 'added');
    const known = { outcome: 'known', id: calls[added]!.id, isSame: true } satisfies Enqueued;
    expect(outcomes.toSpliced(added, 1)).toEqual(Array.from({ length: 39 }, () => known));
    const different = call(id, { key, digest: Buffer.from('another') });
    expect(await managers[0]!.enqueue(different)).toEqual({ ...known, isSame: false });
    expect(await repository({ perFunction: 1 }).enqueue(call(id, { key }))).toEqual(known);
    expect(await managers[0]!.enqueue(call(other, { key }))).toMatchObject({ outcome: 'added' });
  });

  it('have their key for as long as they are kept, and then somebody else has it', async () => {
    const id = await here.add();
    const key = 'order-1';
    const [gone] = await add(id, 1, { key });
    await here.database.query('DELETE FROM invocations');
    const all = repository();
    // Whoever made it may not be done with its call.
    expect(await all.enqueue(call(id, { key }))).toMatchObject({ outcome: 'known', id: gone });
    await here.database.query(`UPDATE invocation_keys SET created_at = now() - interval '2 minutes'`);
    const digest = Buffer.from('another');
    const calls = [call(id), call(id, { key, digest }), call(id, { key, digest })];
    const outcomes = await Promise.all(calls.map((one) => all.enqueue(one)));
    const known = { outcome: 'known', id: calls[1]!.id, isSame: true };
    expect(outcomes).toMatchObject([{ outcome: 'added' }, { outcome: 'added' }, known]);
    await here.database.query(`UPDATE invocation_keys SET created_at = now() - interval '2 minutes'`);
    expect(await repository().enqueue(call(id, { key, digest }))).toMatchObject(known);
    expect(await storage.forgetKeys(0)).toBe(0);
  });

  it('of no function are refused, and those of one that is removed rest and go', async () => {
    expect(await repository().enqueue(call('a'.repeat(16)))).toEqual({ outcome: 'no_function' });
    const id = await here.add();
    const [only] = await add(id, 1, { key: 'k' });
    await here.repository.markDeleted(id);
    expect(await claim(id, 1)).toEqual([]);
    expect(await repository().upcoming(1_000)).toEqual([]);
    expect(await repository().find(only!)).toBeNull();
    expect(await repository().enqueue(call(id))).toEqual({ outcome: 'no_function' });
    expect(await storage.forgetFunctions()).toBe(0);
    await here.database.query('DELETE FROM functions WHERE id = $1', [id]);
    while ((await storage.forgetFunctions()) > 0);
    for (const table of ['invocations', 'invocation_queues', 'invocation_keys']) {
      expect(await here.database.query(`SELECT FROM ${table}`)).toEqual([]);
    }
  });

  it('are forgotten after their time: a day at once, and from one that stays those that have ended', async () => {
    const id = await here.add();
    const old = partitionOf(new Date(Date.now() - 10 * 86_400_000));
    const older = partitionOf(new Date(Date.now() - 20 * 86_400_000));
    expect(await storage.ensure([old.day, older.day])).toBeUndefined();
    const [stays] = await add(id, 1, { id: old.from.replace(/0$/, '1') });
    const [goes] = await add(id, 1, { id: old.from.replace(/0$/, '2'), delayMs: -1 });
    await add(id, 1, { id: older.from.replace(/0$/, '1') });
    const claims = await claim(id, 3);
    await Promise.all(claims.filter((one) => one.id !== stays).map(ended));
    await here.database.query(`UPDATE invocations SET ended_at = now() - interval '9 days' WHERE ended_at IS NOT NULL`);
    expect(await storage.drop(older, 8 * 86_400_000)).toBe(true);
    expect(await storage.drop(old, 8 * 86_400_000)).toBe(false);
    expect(await storage.forget(new Date(), 8 * 86_400_000)).toBe(1);
    expect([await statusOf(stays!), await statusOf(goes!)]).toEqual(['running', undefined]);
    await ended(claims.find((one) => one.id === stays)!);
    expect(await storage.drop(old, 8 * 86_400_000)).toBe(false);
    expect(await storage.drop(old, 0)).toBe(true);
  });

  it('that wait again at the moment at which they would be forgotten stay', async () => {
    const id = await here.add();
    const { day, from, name } = partitionOf(new Date(Date.now() - 10 * 86_400_000));
    expect(await storage.ensure([day])).toBeUndefined();
    const [redriven] = await add(id, 1, { id: from.replace(/0$/, '1') });
    await claim(id, 1).then(([one]) => ended(one!));
    await here.database.query(`UPDATE invocations SET ended_at = now() - interval '9 days'`);
    let dropping: Promise<boolean> | undefined;
    let isDone = false;
    await here.database.transaction(async (ask) => {
      await ask(`UPDATE invocations SET status = 'waiting', ended_at = NULL WHERE id = $1`, [redriven]);
      expect(await storage.forget(new Date(), 0)).toBe(0);
      dropping = storage.drop(partitionOf(day), 0).finally(() => (isDone = true));
      await vi.waitFor(async () => {
        const waiting = `SELECT FROM pg_locks JOIN pg_class ON pg_class.oid = relation
          WHERE NOT granted AND relname IN ('invocations', '${name}')
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`;
        expect(isDone || (await here.database.query(waiting)).length > 0).toBe(true);
      });
    });
    expect(await dropping).toBe(false);
    expect(await statusOf(redriven!)).toBe('waiting');
  });

  it('are not kept for ever for those whom nobody tells', async () => {
    const id = await here.add();
    const { day, from } = partitionOf(new Date(Date.now() - 10 * 86_400_000));
    expect(await storage.ensure([day])).toBeUndefined();
    await add(id, 1, { id: from.replace(/0$/, '1'), callbackUrl: 'https://example.org/' });
    await claim(id, 1).then(([one]) => ended(one!));
    await here.database.query(`UPDATE invocations SET ended_at = now() - interval '9 days'`);
    const week = 7 * 86_400_000;
    expect(await storage.forget(new Date(), week)).toBe(0);
    expect(await storage.drop(partitionOf(day), week)).toBe(false);
    await here.database.query(`UPDATE invocations SET ended_at = now() - interval '15 days'`);
    expect(await storage.drop(partitionOf(day), week)).toBe(true);
  });

  it('of a target that takes long leave room for the callbacks of others', async () => {
    const [slow, other] = [await here.add(), await here.add()];
    const callbackUrl = 'https://example.org/';
    await add(slow, 20, { callbackUrl });
    await claim(slow, 20).then((claims) => Promise.all(claims.map(ended)));
    const [last] = await add(other, 1, { callbackUrl });
    await claim(other, 1).then(([one]) => ended(one!));
    const room = { most: 16, perFunction: 4 };
    const first = await claimCallbacks({ ...room, underWay: new Map([[slow, 1]]) });
    expect(first.map(({ functionId }) => functionId)).toEqual([slow, slow, slow]);
    const second = await claimCallbacks({ ...room, underWay: new Map([[slow, 4]]) });
    expect(second.map((one) => one.id)).toEqual([last]);
  });

  it('are listed by status and by when they came', async () => {
    const id = await here.add();
    const [dead, waits] = await add(id, 2);
    await claim(id, 1).then(([one]) => repository().complete({ ...one!, status: 'dead' }));
    const {
      rows: [found],
    } = await repository().list(id, { status: 'dead', limit: 10 });
    expect([dead, waits]).toContain(found!.id);
    const { createdAt } = found!;
    const list = (filter: object) =>
      repository()
        .list(id, { limit: 10, ...filter })
        .then(({ rows }) => rows.length);
    const [before, after] = [-1_000, 1_000].map((ms) => new Date(createdAt.getTime() + ms));
    expect(await list({ since: before, until: after })).toBe(2);
    expect(await list({ since: after })).toBe(0);
    expect(await list({ until: before })).toBe(0);
    expect(await list({ since: new Date(-1e14), until: new Date(2.5e14), status: 'waiting' })).toBe(1);
    expect(await list({ after: found!.id, until: after, status: 'dead' })).toBe(0);
  });

  it('are told of once they have ended, by one manager at a time, and as long as they are not told of', async () => {
    const id = await here.add();
    const callbackUrl = 'https://example.org/';
    const [ends] = await add(id, 1, { callbackUrl });
    const [waits] = await add(id, 1, { callbackUrl, delayMs: 60_000 });
    const [late] = await add(id, 1, { callbackUrl, delayMs: 1, maxAgeMs: 1 });
    expect(await claimCallbacks()).toEqual([]);
    await claim(id, 1).then(([one]) => ended(one!));
    await repository().cancel(waits!);
    await here.database.query('SELECT pg_sleep(0.01)');
    await repository().expire();
    const claims = (await Promise.all([1, 2, 3].map(() => claimCallbacks()))).flat();
    expect(claims.map((one) => one.id).toSorted()).toEqual([ends!, waits!, late!].toSorted());
    const told = claims.find((one) => one.id === ends)!;
    expect(told).toMatchObject({ status: 'succeeded', callbackAttempt: 1, result: RESULT });
    await repository().recordCallback(told, 'waiting', { error: 'it answered 503', inMs: 0 });
    const [again] = await claimCallbacks();
    expect(again).toMatchObject({ id: ends, callbackAttempt: 2, callbackError: 'it answered 503' });
    // Whoever comes late changes nothing.
    await repository().recordCallback(told, 'failed');
    expect(await repository().find(ends!)).toMatchObject({ callbackStatus: 'waiting' });
    await repository().recordCallback(again!, 'delivered');
    expect(await repository().find(ends!)).toMatchObject({ callbackStatus: 'delivered', callbackError: null });
    await here.database.query('UPDATE invocations SET callback_due_at = now() WHERE callback_due_at IS NOT NULL');
    expect(await claimCallbacks()).toHaveLength(2);
    // A redrive has another end, which is told of under another id.
    expect(await repository().redrive(id, [late!], 1)).toBe(1);
    await here.database.query('SELECT pg_sleep(0.01)');
    await repository().expire();
    const [anew] = await claimCallbacks();
    expect(anew).toMatchObject({ id: late, callbackAttempt: 1 });
    const former = claims.find((one) => one.id === late)!;
    expect(former.callbackId).toBe(late);
    expect(anew!.callbackId).not.toBe(late);
    await repository().recordCallback(former, 'delivered');
    expect(await repository().find(late!)).toMatchObject({ callbackStatus: 'waiting' });
    await repository().recordCallback(anew!, 'waiting', { inMs: 0 });
    expect(await claimCallbacks()).toMatchObject([{ id: late, callbackId: anew!.callbackId, callbackAttempt: 2 }]);
  });

  it('are given up once they have waited for too long', async () => {
    const id = await here.add();
    const [late] = await add(id, 1, { maxAgeMs: 1 });
    const [waits] = await add(id, 1);
    await here.database.query('SELECT pg_sleep(0.01)');
    expect(await repository().expire()).toBe(1);
    expect(await repository().find(late!)).toMatchObject({ status: 'dead', error: { code: 'invocation_expired' } });
    expect(await statusOf(waits!)).toBe('waiting');
    expect((await queues()).counted).toEqual({ [id]: 1 });
    // What it last failed with says more.
    const error = { code: 'handler_error', detail: 'oh' };
    await claim(id, 1).then(([one]) => repository().complete({ ...one!, status: 'waiting', inMs: 0, error }));
    await claim(id, 1).then(([one]) =>
      repository().complete({ ...one!, status: 'dead', counts: false, error: EXPIRED }),
    );
    expect(await repository().find(waits!)).toMatchObject({ status: 'dead', error });
  });

  it('keep what is counted of them through cancels, retries and redrives', async () => {
    const id = await here.add();
    const calls = await add(id, 6);
    const claims = await claim(id, 4);
    const [first, second, third, fourth] = claims as [Claimed, Claimed, Claimed, Claimed];
    const waiting = calls.find((one) => claims.every((claimed) => claimed.id !== one)) as string;
    expect(await repository().cancel(waiting)).toMatchObject({ status: 'cancelled' });
    expect(await repository().cancel(waiting)).toBeNull();
    expect(await repository().cancel(first.id)).toMatchObject({ status: 'running', cancelRequested: true });
    expect(await repository().renew([first], LEASE_MS)).toEqual(new Map([[first.id, { isCancelled: true }]]));
    const all = repository();
    const error = { code: 'handler_error', detail: 'oh' };
    await Promise.all([
      all.complete({ ...first, status: 'waiting', inMs: 0, error }),
      all.complete({ ...second, status: 'waiting', inMs: 0, error }),
      all.complete({ ...third, status: 'dead', error }),
      all.complete({ ...fourth, status: 'waiting', inMs: 0, counts: false }),
    ]);
    expect(await repository().find(first.id)).toMatchObject({ status: 'cancelled', attempt: 1 });
    expect(await repository().find(second.id)).toMatchObject({ status: 'waiting', attempt: 1, error });
    expect(await repository().find(fourth.id)).toMatchObject({ status: 'waiting', attempt: 0 });
    expect(await queues()).toEqual({ counted: { [id]: 3 }, there: { [id]: 3 } });
    expect(await repository().redrive(id, null, 10)).toBe(1);
    expect(await repository().find(third.id)).toMatchObject({ status: 'waiting', attempt: 0, endedAt: null });
    expect(await queues()).toEqual({ counted: { [id]: 4 }, there: { [id]: 4 } });
  });
});
