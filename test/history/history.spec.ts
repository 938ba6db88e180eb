import { randomUUIDv7 } from 'node:crypto';
import type { HistoryConfig } from '#libs/config/config.js';
import { loadConfig } from '#libs/config/load-config.js';
import type { Ask, Database } from '#libs/database/database.js';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { Metrics } from '#libs/observability/metrics.js';
import type { PinoLogger } from 'nestjs-pino';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { CallEnds, type EndedCall } from '../../apps/manager/src/gateway/call-ends.js';
import { CallTiming } from '../../apps/manager/src/gateway/call-timing.js';
import { HistoryKeeper } from '../../apps/manager/src/history/history.keeper.js';
import { HistoryMetrics } from '../../apps/manager/src/history/history-metrics.js';
import { HistoryRecorder } from '../../apps/manager/src/history/history.recorder.js';
import { type CallFilter, HistoryRepository } from '../../apps/manager/src/history/history.repository.js';
import { HistoryStorage } from '../../apps/manager/src/history/history.storage.js';
import { quantileOf } from '../../apps/manager/src/history/minutes.js';
import { FIRST_ID, firstIdOf, LAST_ID } from '../../apps/manager/src/invocations/days.js';
import { Installation } from '../reconcile/installation.js';
import { createSharedDatabase } from '../support/postgres.js';

const ID = 'aaaaaaaaaaaaaaaa';
const ALL: CallFilter = { from: FIRST_ID, before: LAST_ID, limit: 50 };
const PATIENCE = { timeout: 60_000 };
const { history: CONFIG } = loadConfig({});
const silent = pino({ level: 'silent' }) as unknown as PinoLogger;

let here: Installation;
let storage: HistoryStorage;
beforeAll(async () => {
  here = await Installation.open(await createSharedDatabase());
  storage = new HistoryStorage(here.database);
});
afterAll(() => here.close());
afterEach(async () => {
  await here.database.query('TRUNCATE calls, call_payloads, call_minutes');
  await here.database.query('UPDATE history_segments SET rows = 0, opened_at = now()');
});

/** The history of one manager. */
function history(config: Partial<HistoryConfig> = {}, repository = new HistoryRepository(here.database)) {
  const all = { ...CONFIG, ...config };
  const metrics = new Metrics();
  const counts = new HistoryMetrics(metrics);
  const keeper = new HistoryKeeper(storage, counts, all, silent);
  const ends = new CallEnds();
  const recorder = new HistoryRecorder(ends, repository, keeper, counts, all, silent);
  const count = async (name: string) =>
    Number(new RegExp(`^${name.replaceAll(/[{}]/g, '\\$&')} (\\d+)$`, 'm').exec(await metrics.text())?.[1]);
  return { ends, recorder, keeper, repository, count };
}

let ids = Date.now() - 3_600_000;
/** Of the next millisecond: those of one are in no order. */
function nextId(): string {
  ids += 1;
  return `${firstIdOf(new Date(ids)).slice(0, 14)}${randomUUIDv7().slice(14)}`;
}

function ended({ id = ID, ms = 5, revision = 1, ...rest }: Record<string, unknown> = {}): EndedCall {
  const timing = Object.assign(new CallTiming(), { calledId: id, revision, servedBy: revision, replica: 'r1' });
  timing.sends(timing.startedAt);
  timing.returns(timing.startedAt + (ms as number));
  return {
    id: nextId(),
    kind: 'execute',
    requestId: 'a-request',
    timing,
    code: undefined,
    detail: undefined,
    endedAt: timing.startedAt + (ms as number),
    createdBy: null,
    attemptOf: undefined,
    exchanged: undefined,
    ...rest,
  };
}

async function openSegment(): Promise<void> {
  const newest = (await storage.segments()).findLast(({ family }) => family === 'calls');
  await storage.openAfter(newest!);
}

/** But for the newest. */
async function dropSegments(): Promise<void> {
  const closed = (await storage.segments()).filter(({ closedAt }) => closedAt !== null);
  await Promise.all(closed.map((segment) => storage.drop(segment)));
}

const rows = () => here.database.query<{ id: string; segment: number }>('SELECT id, segment FROM calls ORDER BY id');

describe('calls that have ended', () => {
  it('are each written once, with what they add up to', async () => {
    const { ends, recorder, repository } = history();
    const calls = Array.from({ length: 2_500 }, (_, n) => ended(n % 5 === 0 ? { code: 'handler_error' } : {}));
    for (const call of calls) ends.tell(call);
    await recorder.settled(60_000);
    expect((await rows()).map(({ id }) => id)).toEqual(calls.map(({ id }) => id).toSorted());
    const window = { since: new Date(0), until: new Date(Date.now() + 60_000), stepSeconds: 3_600 };
    const [hour, ...others] = await repository.counts(ID, undefined, window);
    expect(others.reduce((sum, one) => sum + one.calls, hour?.calls ?? 0)).toBe(2_500);
    expect(hour).toMatchObject({ cancelled: 0, coldStarts: 0 });
    expect(quantileOf(hour?.durations ?? [], 0.5)).toBeCloseTo(5, 0);
    const segment = (await storage.segments()).find(({ family }) => family === 'calls');
    expect(segment).toMatchObject({ rows: 2_500, closedAt: null });
  });

  it('add up across managers that write the same minutes at once', async () => {
    const managers = Array.from({ length: 4 }, () => history());
    const functions = Array.from({ length: 20 }, (_, n) => `function-${String(n).padStart(7, '0')}`);
    for (const { ends } of managers) {
      for (let n = 0; n < 1_000; n += 1) ends.tell(ended({ id: functions[(n * 7) % 20], revision: 1 + (n % 3) }));
    }
    await Promise.all(managers.map(({ recorder }) => recorder.settled(60_000)));
    const [sums] = await here.database.query(
      'SELECT sum(calls)::integer AS calls, count(DISTINCT (function_id, revision))::integer AS keys FROM call_minutes',
    );
    expect(sums).toEqual({ calls: 4_000, keys: 60 });
  });

  it('are dropped and counted once too many wait, and written once the database is back, each once', async () => {
    const repository = new HistoryRepository(here.database);
    const write = repository.write.bind(repository);
    let isAway = true;
    const away = new DatabaseUnavailable(new Error('it is away'));
    const slow = Object.assign(repository, {
      // The first time what was written is committed, and its writer never hears of it.
      write: async (...batch: Parameters<HistoryRepository['write']>) => {
        if (!isAway) return write(...batch);
        if ((await rows()).length === 0) await write(...batch);
        throw away;
      },
    });
    const { ends, recorder, count } = history({}, slow);
    for (let n = 0; n < 51_500; n += 1) ends.tell(ended());
    await vi.waitFor(
      async () => expect(await count('faas_history_faults_total{what="write"}')).toBeGreaterThan(0),
      PATIENCE,
    );
    for (let n = 0; n < 500; n += 1) ends.tell(ended());
    await recorder.settled(60_000);
    const dropped = await count('faas_history_dropped_total{reason="pending_full"}');
    expect(dropped).toBeGreaterThanOrEqual(1_000);
    const known = await count('faas_history_written_total');
    expect(await count('faas_history_pending')).toBe(52_000 - dropped - known);
    isAway = false;
    await recorder.settled(60_000);
    const ids = (await rows()).map(({ id }) => id);
    expect(ids.length).toBe(52_000 - dropped);
    expect(new Set(ids).size).toBe(ids.length);
    expect(await count('faas_history_written_total')).toBe(ids.length);
  });

  it('add up once where nobody heard that they were written, and where that was still under way', async () => {
    const repository = new HistoryRepository(here.database);
    const write = repository.write.bind(repository);
    let isHeard = false;
    const deaf = Object.assign(repository, {
      write: async (...batch: Parameters<HistoryRepository['write']>) => {
        const [written] = await Promise.all([write(...batch), write(...batch)]);
        if (isHeard) return written;
        isHeard = true;
        throw new DatabaseUnavailable(new Error('it went away'));
      },
    });
    const { ends, recorder, keeper } = history({}, deaf);
    const { ends: othersEnds, recorder: other } = history();
    // Nothing but sums is kept of these.
    keeper.isFull = true;
    for (let n = 0; n < 3; n += 1) ends.tell(ended());
    await recorder.settled(60_000);
    expect(isHeard).toBe(true);
    othersEnds.tell(ended());
    await other.settled(60_000);
    ends.tell(ended());
    await recorder.settled(60_000);
    const [sums] = await here.database.query('SELECT sum(calls)::integer AS calls FROM call_minutes');
    expect(sums).toEqual({ calls: 5 });
  });

  it('that the database refuses, or that are none, cost no other ones', async () => {
    const { ends, recorder, repository, count } = history();
    const exchanged = { body: Buffer.from('{"payload":"x"}'), result: undefined, redact: [] };
    const fine = Array.from({ length: 20 }, () => ended({ exchanged }));
    const refused = ended({ kind: 'unheard-of' });
    for (const call of [...fine.slice(0, 7), refused, ...fine.slice(7)]) ends.tell(call);
    ends.tell(ended({ code: Symbol('no text') }));
    await recorder.settled(60_000);
    expect(await count('faas_history_dropped_total{reason="refused"}')).toBe(2);
    expect((await rows()).map(({ id }) => id)).toEqual(fine.map(({ id }) => id).toSorted());
    for (const { id } of fine) expect((await repository.find(id))?.payload?.toString()).toBe('x');
    const [sums] = await here.database.query('SELECT sum(calls)::integer AS calls FROM call_minutes');
    expect(sums).toEqual({ calls: 22 });
  });

  it('are waited for by who reads, and not those that end meanwhile', async () => {
    const repository = new HistoryRepository(here.database);
    const write = repository.write.bind(repository);
    const { ends, recorder } = history(
      {},
      Object.assign(repository, {
        write: async (...batch: Parameters<HistoryRepository['write']>) => {
          const written = await write(...batch);
          // There is always another one.
          ends.tell(ended());
          return written;
        },
      }),
    );
    const first = ended();
    ends.tell(first);
    await recorder.settled(60_000);
    expect((await rows()).map(({ id }) => id)).toEqual([first.id]);
  });

  it('are dropped and counted where a manager leaves without a database, the last ones too', async () => {
    const repository = Object.assign(new HistoryRepository(here.database), {
      write: () => {
        ends.tell(ended());
        return Promise.reject(new DatabaseUnavailable(new Error('it went away')));
      },
    });
    const { ends, recorder, count } = history({}, repository);
    ends.tell(ended());
    await recorder.onApplicationShutdown();
    expect(await count('faas_history_dropped_total{reason="shutdown"}')).toBe(2);
  });

  it('are not kept where the history is off', async () => {
    const { ends, recorder } = history({ isOn: false });
    const timing = new CallTiming();
    ends.begin(timing);
    expect(timing.id).toBeUndefined();
    ends.tell(ended());
    await recorder.settled(60_000);
    expect(await rows()).toEqual([]);
  });

  it('are none where an attempt was given back before it had ended', async () => {
    const { ends, recorder } = history();
    const attemptOf = { invocation: randomUUIDv7(), attempt: 1, isGivenBack: true };
    ends.tell(ended({ kind: 'later', attemptOf, code: 'call_cancelled' }));
    const done = ended({ kind: 'later', attemptOf });
    ends.tell(done);
    await recorder.settled(60_000);
    expect(await rows()).toMatchObject([{ id: done.id }]);
  });

  it('keep their payloads up to a size, redacted', async () => {
    const { ends, recorder, repository } = history({ payloadBytes: 200 });
    const of = (payload: string, result: string, redact: string[] = ['password']) =>
      ended({ exchanged: { body: Buffer.from(JSON.stringify({ payload })), result: Buffer.from(result), redact } });
    const plain = of('{"name":"Ada"}', '{"result":"Hello"}');
    const secret = of('{"password":"x"}', '{"result":{"password":"x"}}');
    const open = of('{"password":"x"}', '{"result":1}', []);
    const long = of('x'.repeat(300), '{"result":1}');
    const longResult = of('x', JSON.stringify({ result: 'x'.repeat(300) }));
    const deep = of(`{"password":${'['.repeat(60)}${']'.repeat(60)}}`, '{"result":1}');
    for (const call of [plain, secret, open, long, longResult, deep]) ends.tell(call);
    await recorder.settled(60_000);
    const kept = async ({ id }: EndedCall) => {
      const found = await repository.find(id);
      return [found?.payload?.toString(), found?.result?.toString(), found?.isRedacted];
    };
    expect(await kept(plain)).toEqual(['{"name":"Ada"}', '{"result":"Hello"}', false]);
    expect(await kept(secret)).toEqual(['{"password":"[redacted]"}', '{"result":{"password":"[redacted]"}}', true]);
    expect(await kept(open)).toEqual(['{"password":"x"}', '{"result":1}', false]);
    expect(await kept(long)).toEqual([undefined, undefined, null]);
    expect(await kept(longResult)).toEqual(['x', undefined, false]);
    expect(await kept(deep)).toEqual(['{"password":"[redacted]"}', '{"result":1}', true]);
  });

  it('are measured by their payloads and results, and not by the JSON around', async () => {
    const { ends, recorder, repository } = history({ payloadBytes: 200 });
    const of = (body: string, result: string) =>
      ended({ exchanged: { body: Buffer.from(body), result: Buffer.from(result), redact: [] } });
    const calls = [200, 201].flatMap((bytes) => [
      of(`{"payload": "${'x'.repeat(bytes)}"}`, `{"result":"${'y'.repeat(bytes - 2)}"}`),
      of(`{"payload":"${String.raw`\u0041`.repeat(bytes)}"}`, '{"result":1}'),
      of(`{"payload":"é${'x'.repeat(bytes - 2)}"}`, '{"result":1}'),
      of('{"payload":""}', `{"result":"${'y'.repeat(bytes - 2)}"}`),
    ]);
    for (const call of calls) ends.tell(call);
    await recorder.settled(60_000);
    const found = await Promise.all(calls.map(({ id }) => repository.find(id)));
    expect(found.map((one) => one?.payload?.length)).toEqual([200, 200, 200, 0, undefined, undefined, undefined, 0]);
    expect(found.map((one) => one?.result?.length)).toEqual([
      211,
      12,
      12,
      211,
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });
});

const idOf = (n: number) => `01900000-0000-7000-8000-${String(n).padStart(12, '0')}`;

/** Calls of one function into the newest segment, the fifth of another revision. */
async function insertCalls(count: number, { from = 1, functionId = ID } = {}): Promise<void> {
  await here.database.query(
    `INSERT INTO calls (id, request_bytes, answer_bytes, segment, revision, queue_ms, handler_ms, total_ms, kind, is_cold,
       function_id, request_id)
     SELECT ('01900000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 1, 1,
       (SELECT max(number) FROM history_segments WHERE family = 'calls'), CASE n WHEN 5 THEN 2 ELSE 1 END, 0, 1, 1, 0,
       false, $3, 'a-request' FROM generate_series($1::integer, $2::integer) AS n`,
    [from, from + count - 1, functionId],
  );
}

interface Plan {
  readonly 'Actual Rows': number;
  readonly Plans?: readonly Plan[];
}

/** How PostgreSQL answers what is read in transactions. */
function explained(): { readonly database: Database; readonly plans: Plan[] } {
  const plans: Plan[] = [];
  const database = Object.create(here.database) as Database;
  database.transaction = (work, options) =>
    here.database.transaction(async (ask, copy) => {
      const asked: Ask = async (sql, values) => {
        if (sql.startsWith('WITH')) {
          const [row] = await ask<{ 'QUERY PLAN': [{ Plan: Plan }] }>(`EXPLAIN (ANALYZE, FORMAT JSON) ${sql}`, values);
          plans.push(row!['QUERY PLAN'][0].Plan);
        }
        return ask(sql, values);
      };
      return work(asked, copy);
    }, options);
  return { database, plans };
}

function mostRead(plan: Plan): number {
  return Math.max(plan['Actual Rows'], ...(plan.Plans ?? []).map(mostRead));
}

describe('lists of calls', () => {
  it('are filtered, and leave attempts of calls for later to those', async () => {
    const { ends, recorder, repository } = history();
    const calls = {
      fine: ended(),
      failed: ended({ code: 'handler_error', detail: 'ValueError: oh\0\ud800' }),
      left: ended({ code: 'call_cancelled', kind: 'http' }),
      second: ended({ revision: 2, kind: 'http' }),
      other: ended({ id: 'bbbbbbbbbbbbbbbb' }),
      attempt: ended({ kind: 'later', attemptOf: { invocation: randomUUIDv7(), attempt: 2 } }),
      run: ended({ kind: 'run', id: 'cccccccccccccccc' }),
    };
    for (const call of Object.values(calls)) ends.tell(call);
    await recorder.settled(60_000);
    const names = new Map(Object.entries(calls).map(([name, { id }]) => [id, name]));
    const list = async (filter: Partial<CallFilter>) =>
      (await repository.list(ID, { ...ALL, ...filter })).rows.map(({ id }) => names.get(id));
    expect(await list({})).toEqual(['second', 'left', 'failed', 'fine']);
    expect(await list({ status: 'succeeded' })).toEqual(['second', 'fine']);
    expect(await list({ status: 'failed' })).toEqual(['failed']);
    expect(await list({ status: 'cancelled' })).toEqual(['left']);
    expect(await list({ status: 'waiting' })).toEqual([]);
    expect(await list({ code: 'handler_error' })).toEqual(['failed']);
    expect(await list({ kind: 'http' })).toEqual(['second', 'left']);
    expect(await list({ kind: 'later' })).toEqual([]);
    expect(await list({ revision: 2 })).toEqual(['second']);
    expect(await list({ from: calls.left.id, before: calls.second.id })).toEqual(['left']);
    expect((await repository.runs(ALL)).rows.map(({ id }) => names.get(id))).toEqual(['run']);
    const attempts = await repository.attempts(calls.attempt.attemptOf?.invocation ?? '', 10);
    expect(attempts).toMatchObject([{ id: calls.attempt.id, attempt: 2, kind: 'later' }]);
    expect(await repository.find(calls.failed.id)).toMatchObject({ detail: 'ValueError: oh\u{FFFD}\u{FFFD}' });
    expect(await repository.find(randomUUIDv7())).toBeNull();
  });

  it('have pages that stay as they are while calls come, across segments', async () => {
    const { ends, recorder, repository } = history();
    const before = Array.from({ length: 100 }, () => ended());
    for (const [n, call] of before.entries()) {
      ends.tell(call);
      if (n % 30 !== 29) continue;
      await recorder.settled(60_000);
      await openSegment();
    }
    await recorder.settled(60_000);
    const seen: string[] = [];
    for (let next = ALL.before; ;) {
      const { rows: page } = await repository.list(ID, { ...ALL, before: next, limit: 7 });
      seen.push(...page.map(({ id }) => id));
      ends.tell(ended());
      await recorder.settled(60_000);
      if (page.length < 7) break;
      next = page.at(-1)!.id;
    }
    expect(seen).toEqual(
      before
        .map(({ id }) => id)
        .toSorted()
        .toReversed(),
    );
    await dropSegments();
  });

  it('look at so many calls for a filter, and say where they have stopped', async () => {
    const { repository } = history();
    await insertCalls(25_000);
    const found = [];
    let pages = 0;
    for (let before: string | undefined = ALL.before; before !== undefined; pages += 1) {
      const { rows: some, downTo }: Awaited<ReturnType<HistoryRepository['list']>> = await repository.list(ID, {
        ...ALL,
        before,
        revision: 2,
      });
      found.push(...some);
      before = downTo;
    }
    expect(found).toMatchObject([{ revision: 2 }]);
    expect(pages).toBe(3);
  });

  it('read no more calls than they show, of however many the function has', async () => {
    for (let from = 1; from < 50_000; from += 10_000) {
      for (const functionId of [ID, 'zzzzzzzzzzzzzzzz']) await insertCalls(10_000, { from, functionId });
      await openSegment();
    }
    await here.database.query('ANALYZE calls');
    const { database, plans } = explained();
    const repository = new HistoryRepository(database);
    for (const [before, newest] of [
      [ALL.before, 50_000],
      [idOf(25_000), 24_999],
    ] as const) {
      const { rows: page } = await repository.list(ID, { ...ALL, before });
      expect(page.map(({ id }) => id)).toEqual(Array.from({ length: 50 }, (_, n) => idOf(newest - n)));
    }
    expect(plans.map(mostRead)).toEqual([50, 50]);
    await dropSegments();
  });
});

describe('the bounds of the history', () => {
  const names = async () =>
    (await storage.segments()).filter(({ family }) => family === 'calls').map(({ number }) => number);
  const tables = async () =>
    (
      await here.database.query<{ name: string }>(
        `SELECT relname AS name FROM pg_class WHERE relname ~ '^calls_[0-9]+$'`,
      )
    )
      .map(({ name }) => Number(name.slice(6)))
      .toSorted((a, b) => a - b);

  it('are kept by dropping the oldest segments whole', async () => {
    const { ends, recorder, keeper } = history({ mostRows: 1_000 });
    for (let round = 0; round < 30; round += 1) {
      for (let n = 0; n < 100; n += 1) ends.tell(ended());
      await recorder.settled(60_000);
      await keeper.look();
      expect((await rows()).length).toBeLessThanOrEqual(1_000);
    }
    const segments = await names();
    expect(await tables()).toEqual(segments);
    expect(segments.length).toBeGreaterThan(5);
    expect((await rows()).length).toBeGreaterThan(600);
  });

  it('are kept with what is too old, by whichever manager looks', async () => {
    const managers = [history({ retentionMs: 60_000 }), history({ retentionMs: 60_000 })];
    managers[0]!.ends.tell(ended());
    await managers[0]!.recorder.settled(60_000);
    const look = () => Promise.all(managers.map(({ keeper }) => keeper.look()));
    await here.database.query(`UPDATE history_segments SET opened_at = now() - interval '10 seconds'`);
    await look();
    const newest = Math.max(...(await names()));
    expect(await rows()).toHaveLength(1);
    await here.database.query(
      `UPDATE history_segments SET closed_at = now() - interval '61 seconds' WHERE closed_at IS NOT NULL`,
    );
    await vi.waitFor(async () => {
      await look();
      expect(await names()).toEqual([newest]);
    }, PATIENCE);
    expect(await rows()).toEqual([]);
  });

  it('are kept where no segment can be made: calls go on, and the metrics say it', async () => {
    const { ends, recorder, keeper, count } = history({ mostRows: 1_000 });
    const newest = Math.max(...(await names()));
    await here.database.query(`CREATE TABLE calls_${newest + 1} ()`);
    const told = async (calls: number) => {
      for (let n = 0; n < calls; n += 1) ends.tell(ended());
      await recorder.settled(60_000);
      await keeper.look();
    };
    await told(500);
    expect(await count('faas_history_faults_total{what="open"}')).toBeGreaterThan(0);
    expect(await rows()).toHaveLength(500);
    await told(500);
    expect(keeper.isFull).toBe(true);
    await told(10);
    expect(await count('faas_history_dropped_total{reason="history_full"}')).toBe(10);
    expect(await rows()).toHaveLength(1_000);
    const [sums] = await here.database.query('SELECT sum(calls)::integer AS calls FROM call_minutes');
    expect(sums).toEqual({ calls: 1_010 });
    await here.database.query(`DROP TABLE calls_${newest + 1}`);
    await keeper.look();
    expect(keeper.isFull).toBe(false);
    await keeper.look();
    await told(10);
    expect(await rows()).toHaveLength(10);
  });

  it('hold while calls are written and read', async () => {
    const { ends, recorder, keeper, repository } = history({ mostRows: 2_000 });
    let written = 0;
    const until = performance.now() + 2_000;
    const write = async () => {
      while (performance.now() < until) {
        for (let n = 0; n < 150; n += 1) ends.tell(ended());
        written += 150;
        await recorder.settled(60_000);
        await keeper.look();
      }
    };
    const read = async () => {
      while (performance.now() < until) await repository.list(ID, { ...ALL, limit: 1_000 });
    };
    await Promise.all([write(), read(), read()]);
    expect((await rows()).length).toBeLessThanOrEqual(2_000);
    expect(written).toBeGreaterThan(0);
  });
});
