import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { InvocationDto } from '../client/index.js';
import { describeSkipped } from '../support/skipped.js';
import { type Caller, type Reply, shown } from './support/caller.js';
import type { ManagerProcess } from './support/manager-process.js';
import { killProcess } from './support/processes.js';
import { ProcessSite } from './support/process-site.js';
import { Random } from './support/random.js';
import { Stage } from './support/stage.js';

const ROUNDS = 100;
/** Of kills, one after the other, before all that was accepted must have run. */
const SETTLED_EVERY = 4;
const ROUND_MS = 150_000;
const OPEN_MS = 180_000;
const WELL_AGAIN_MS = 90_000;
const ENQUEUE_EVERY_MS = 10;
/** A lease and a poll are seven seconds by default; the rest is for a machine that is busy. */
const AGAIN_WITHIN_MS = 25_000;

const CODE = `import time

def handle(payload):
    nap, _, text = payload.partition(" ")
    time.sleep(float(nap))
    return text
`;
/** The times of each second; all calls that are made end well. */
const TICK = {
  interval_ms: 1_000,
  overlap: 'allow',
  payload: '0 tick',
  max_attempts: 100,
  backoff_ms: 50,
};
const VICTIMS = ['manager', 'managers', 'database', 'worker'] as const;
type Victim = (typeof VICTIMS)[number];

interface Accepted {
  readonly id: string;
  readonly text: string;
}

if (process.platform !== 'linux') describeSkipped('calls for later among crashes', 'Linux only');
else describeInvocationCrashes();

/** `CRASH_ROUNDS` says how many rounds, `CRASH_SEED` which they are. */
function describeInvocationCrashes(): void {
  const seed = process.env['CRASH_SEED'] || randomBytes(4).toString('hex');
  const rounds = Math.max(1, Math.round(Number(process.env['CRASH_ROUNDS'] || ROUNDS)));

  describe(`calls for later among crashes (seed ${seed})`, () => {
    const random = new Random(`invocations ${seed}`);
    const accepted: Accepted[] = [];
    let stage: Stage;
    let functionId: string;
    let scheduledId: string;
    let count = 0;
    const callerOf = (which: number) => stage.callers[which] as Caller;

    beforeAll(async () => {
      process.stdout.write(`calls for later among crashes: ${rounds} rounds, CRASH_SEED=${seed}\n`);
      stage = await Stage.open(ProcessSite.open);
      const scaling = { concurrency: '8', max_replicas: '2' };
      const upload = { code: Buffer.from(CODE), functionName: 'handle', scaling };
      functionId = bodyOf<{ id: string }>(await callerOf(0).upload(upload, 60_000)).id;
      scheduledId = bodyOf<{ id: string }>(await callerOf(0).upload(upload, 60_000)).id;
      bodyOf(await callerOf(0).change('PUT', scheduledId, 'schedules/tick', TICK));
    }, OPEN_MS);

    afterAll(async () => stage?.close(), OPEN_MS);

    /** Sends one call until somebody has answered it, as clients with a key may. */
    async function enqueue(which: number, signal: AbortSignal): Promise<void> {
      const text = `call-${(count += 1)}`;
      const body = { payload: `${random.integer(0, 30) / 1_000} ${text}`, max_attempts: 100, backoff_ms: 50 };
      for (;;) {
        const reply = await callerOf(which).later(functionId, body, text);
        if (reply.kind === 'answer' && reply.status === 202) {
          accepted.push({ id: bodyOf<InvocationDto>(reply).id, text });
          return;
        }
        const isExcused =
          (reply.kind === 'broken' && reply.excused) ||
          (reply.kind === 'answer' && reply.code === 'database_unavailable');
        if (!isExcused) throw new Error(`${shown(reply)}\n${stage.logs(40)}`);
        if (signal.aborted) return;
        await delay(50);
      }
    }

    async function kill(victim: Victim, downForMs: number): Promise<void> {
      const killed = stage.managers.filter((_, index) => victim === 'managers' || index === 0);
      switch (victim) {
        case 'worker': {
          const workers = await stage.site.workers();
          if (workers.length > 0) killProcess(random.pick(workers).pid);
          return;
        }
        case 'database':
          await stage.postgres.kill();
          await delay(downForMs);
          await stage.postgres.restart();
          return;
        case 'manager':
        case 'managers':
          await Promise.all(killed.map((manager) => manager.kill()));
          await delay(downForMs);
          await Promise.all(killed.map((manager) => manager.start()));
      }
    }

    async function statuses(): Promise<Map<string, string>> {
      const rows = await query<{ id: string; status: string }>(
        stage.postgres.databaseUrl,
        'SELECT id, status FROM invocations WHERE schedule IS NULL',
      );
      return new Map(rows.map(({ id, status }) => [id, status]));
    }

    async function round(number: number): Promise<void> {
      const victim = random.pick(VICTIMS);
      const [at, downFor] = [random.integer(50, 600), random.integer(0, 800)];
      const over = new AbortController();
      const clients = stage.callers.map(async (_, which) => {
        while (!over.signal.aborted) {
          await enqueue(which, over.signal);
          await delay(ENQUEUE_EVERY_MS);
        }
      });
      await delay(at);
      await kill(victim, downFor);
      await delay(200);
      over.abort();
      await Promise.all(clients);
      if (number % SETTLED_EVERY !== 0 && number < rounds) return;
      await vi.waitFor(
        async () => {
          const ended = [...(await statuses()).values()];
          expect(ended.filter((status) => status !== 'succeeded')).toEqual([]);
        },
        { timeout: WELL_AGAIN_MS, interval: 200 },
      );
    }

    for (let number = 1; number <= rounds; number += 1) {
      it(`loses none that was accepted, round ${number}`, { timeout: ROUND_MS }, () => round(number));
    }

    it('has kept one result of each, and counts none as waiting', { timeout: ROUND_MS }, async () => {
      const there = await statuses();
      expect(new Set(accepted.map(({ id }) => id)).size).toBe(accepted.length);
      expect(accepted.filter(({ id }) => there.get(id) !== 'succeeded')).toEqual([]);
      for (const { id, text } of accepted.filter((_, index) => index % 10 === 0)) {
        expect(bodyOf(await callerOf(1).invocation(id))).toMatchObject({ status: 'succeeded', result: text });
      }
      const texts = await query<{ text: string }>(
        stage.postgres.databaseUrl,
        `SELECT convert_from(result, 'UTF8')::jsonb->>'result' AS text FROM invocations WHERE schedule IS NULL`,
      );
      // Those whose answer was lost are there as well, each once.
      expect(new Set(texts.map(({ text }) => text)).size).toBe(there.size);
      expect(texts).toEqual(expect.arrayContaining(accepted.map(({ text }) => ({ text }))));
      const { databaseUrl } = stage.postgres;
      const counted = () =>
        query(databaseUrl, `SELECT calls, bytes FROM invocation_queues WHERE function_id = '${functionId}'`);
      expect(await counted()).toEqual([{ calls: 0, bytes: '0' }]);
    });

    it('has one call for each time of a schedule, or a reason', { timeout: ROUND_MS }, async () => {
      const { databaseUrl } = stage.postgres;
      const ticks = () =>
        query<{ fired: number; missed: number; times: number; calls: number; different: number; ended: number }>(
          databaseUrl,
          `SELECT fired::integer, missed::integer,
             round(extract(epoch FROM next_at - anchor_at))::integer - 1 AS times, count(*)::integer AS calls,
             count(DISTINCT scheduled_for)::integer AS different,
             (count(*) FILTER (WHERE status = 'succeeded'))::integer AS ended
           FROM schedules JOIN invocations ON invocations.schedule = schedules.name
           GROUP BY schedules.function_id, schedules.name`,
        );
      const [last] = await ticks();
      // It goes on after the last of the kills as before the first.
      const { fired, missed, times, calls, different } = await vi.waitFor(
        async () => {
          const [seen] = await ticks();
          expect(seen!.fired).toBeGreaterThan(last!.fired);
          return seen!;
        },
        { timeout: WELL_AGAIN_MS, interval: 200 },
      );
      expect({ calls, different, times }).toEqual({ calls: fired, different: fired, times: fired + missed });
      bodyOf(await callerOf(1).change('PUT', scheduledId, 'schedules/tick', { ...TICK, enabled: false }));
      await vi.waitFor(
        async () => {
          const [seen] = await ticks();
          expect(seen!.ended).toBe(seen!.fired);
        },
        { timeout: WELL_AGAIN_MS, interval: 200 },
      );
      await callerOf(1).remove(scheduledId);
    });

    it('tries a call again whose manager was killed, within seconds', { timeout: ROUND_MS }, async () => {
      const key = 'whose-manager-is-killed';
      const body = { payload: '8 survived', max_attempts: 1 };
      const { id } = bodyOf<InvocationDto>(await callerOf(0).later(functionId, body, key));
      const read = async () => bodyOf<InvocationDto>(await callerOf(1).invocation(id));
      const first = await vi.waitFor(
        async () => {
          const seen = await read();
          expect(seen.status).toBe('running');
          return seen;
        },
        { timeout: WELL_AGAIN_MS, interval: 20 },
      );
      // Usually the one that took it runs it, and otherwise nothing is shown but that it ends.
      await (stage.managers[0] as ManagerProcess).kill();
      const killedAt = Date.now();
      const ended = await vi.waitFor(
        async () => {
          const seen = await read();
          expect(seen.status).toBe('succeeded');
          return seen;
        },
        { timeout: WELL_AGAIN_MS, interval: 100 },
      );
      expect(ended).toMatchObject({ attempt: 1, result: 'survived' });
      if (ended.started_at !== first.started_at) {
        expect(Date.parse(ended.started_at ?? '') - killedAt).toBeLessThan(AGAIN_WITHIN_MS);
      }
      await (stage.managers[0] as ManagerProcess).start();
      await callerOf(1).remove(functionId);
    });
  });
}

async function query<Row>(url: string, sql: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query(sql)).rows as Row[];
  } finally {
    await client.end();
  }
}

function bodyOf<T>(reply: Reply): T {
  if (reply.kind !== 'answer' || reply.status >= 300) throw new Error(shown(reply));
  return JSON.parse(reply.body.toString('utf8')) as T;
}
