import { countRow, makeRow, pick } from '../report/rows.mjs';
import { quantileOf } from '../report/statistics.mjs';
import { inPairs } from './pairs.mjs';

const CONNECTIONS = 32;
const ROUNDS = { count: 8, seconds: 90 };
const ROUND_SECONDS = 2;
const WARM_UP_SECONDS = 2;
const STARTS = 300;
const PAUSE_MS = 20;
const BACKLOG = 100_000;
const PATIENCE_MS = 120_000;
const CLOCK = { code: 'import time\n\ndef handle(payload):\n    return time.time() * 1000\n', handler: 'handle' };
const EMPTY = { code: 'def handle(payload):\n    pass\n', handler: 'handle' };

/** Calls for later: how fast they are kept, how soon they start, how fast a backlog goes. */
export async function measureLater(stage) {
  const manager = await stage.manager();
  const id = await manager.upload(CLOCK, { min_replicas: 1, max_replicas: 1 });
  const enqueued = await measureEnqueue(stage, manager, id);
  const starts = await measureStarts(stage, manager, id);
  const drained = await measureBacklog(stage, manager);
  return { rows: [...enqueued.rows, ...starts.rows, ...drained.rows], pairs: enqueued.pairs };
}

/** Against one statement for each that inserts and notifies, on as many connections. */
async function measureEnqueue(stage, manager, id) {
  const target = { origin: manager.origin, path: `/functions/${id}/invocations` };
  // Not due while it is measured, so that what is kept is measured and not what runs.
  const body = JSON.stringify({ payload: 'x', delay_ms: 3_600_000 });
  const ours = async (seconds = ROUND_SECONDS) => {
    const { kinds } = await stage.load().round({ target, connections: CONNECTIONS, seconds, body, tolerant: true });
    const { 202: kept, ...others } = kinds;
    if (Object.keys(others).length > 0) throw new Error(`Not all were kept: ${JSON.stringify(others)}`);
    return kept;
  };
  await manager.query(
    'CREATE TABLE reference (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL)',
  );
  const clients = await manager.connections(CONNECTIONS);
  const reference = async (seconds = ROUND_SECONDS) => {
    const began = performance.now();
    const until = began + seconds * 1_000;
    let calls = 0;
    const one = async (client) => {
      for (; performance.now() < until; calls += 1) await client.query(INSERT);
    };
    await Promise.all(clients.map(one));
    return { perSecond: Math.round((calls / (performance.now() - began)) * 1_000) };
  };
  for (const warm of [ours, reference]) await warm(WARM_UP_SECONDS);
  const pairs = await inPairs(stage, ROUNDS, ours, reference);
  await Promise.all(clients.map((client) => client.end()));
  const rows = [
    makeRow(pairs.map(pick(({ perSecond }) => perSecond)), {
      figure: `calls for later kept, ${CONNECTIONS} connections`,
      reference: 'an insert with a notification each',
      unit: '/s',
      target: '≥ 5000, ≥ 4 ×',
      meets: ({ ours: perSecond, ratio }) => perSecond >= 5_000 && ratio.median >= 4,
    }),
    countRow({
      figure: 'p99 at that',
      unit: 'ms',
      ours: quantileOf(
        pairs.map((pair) => pair.ours.p99),
        0.5,
      ),
    }),
  ];
  return { rows, pairs };
}

const INSERT = {
  name: 'reference',
  text: `WITH added AS (INSERT INTO reference (body) VALUES ($1) RETURNING id)
    SELECT pg_notify('reference', id::text) FROM added`,
  values: [Buffer.from('{"payload":"x"}')],
};

async function measureStarts(stage, manager, id) {
  const times = [];
  for (let call = 0; call < Math.max(20, STARTS * stage.share); call += 1) {
    const began = performance.timeOrigin + performance.now();
    const answer = await fetch(`${manager.origin}/functions/${id}/invocations`, {
      method: 'POST',
      body: '{"payload": ""}',
    });
    const { id: invocation } = await answer.json();
    times.push((await ended(manager, invocation)) - began);
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
  const row = (name, q, most) =>
    countRow({
      figure: `from sending a call for later to its handler's start, idle, ${name}`,
      unit: 'ms',
      ours: quantileOf(times, q),
      target: `≤ ${most}`,
      meets: ({ ours }) => ours <= most,
    });
  return { rows: [row('p50', 0.5, 6), row('p99', 0.99, 30)] };
}

async function ended(manager, invocation) {
  const until = performance.now() + PATIENCE_MS;
  while (performance.now() < until) {
    const { status, result } = await (await fetch(`${manager.origin}/invocations/${invocation}`)).json();
    if (status === 'succeeded') return result;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  throw new Error('A call for later did not end.');
}

async function measureBacklog(stage, manager) {
  const id = await manager.upload(EMPTY, { min_replicas: 1, max_replicas: 4 });
  const count = Math.round(BACKLOG * stage.share);
  await manager.query(
    `WITH added AS (
       INSERT INTO invocations (id, function_id, priority, request_id, due_at, max_age_ms, expires_at, retry,
         enqueued_revision, body, payload_bytes)
       SELECT gen_random_uuid(), $1, 1, 'bench', now(), 3600000, now() + interval '1 hour',
         '{"maxAttempts": 3, "on": ["error"], "backoffMs": 1000}', 1, convert_to('{"payload":""}', 'UTF8'), 0
       FROM generate_series(1, $2::integer) RETURNING octet_length(body) AS bytes
     ) INSERT INTO invocation_queues SELECT $1, count(*), sum(bytes) FROM added`,
    [id, count],
  );
  // As those are that were enqueued one after the other.
  await manager.query('ANALYZE invocations');
  // A connection for each look would take a part of the processor.
  const [client] = await manager.connections(1);
  const began = performance.now();
  const left = async () => {
    const { rows } = await client.query('SELECT calls FROM invocation_queues WHERE function_id = $1', [id]);
    return rows[0].calls;
  };
  while ((await left()) > 0) {
    if (performance.now() - began > PATIENCE_MS) throw new Error('The backlog was not drained.');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const perSecond = Math.round((count / (performance.now() - began)) * 1_000);
  await client.end();
  const row = countRow({
    figure: `a backlog of ${count} empty calls, drained`,
    unit: '/s',
    ours: perSecond,
    target: '≥ 3000',
    meets: ({ ours }) => ours >= 3_000,
  });
  return { rows: [row] };
}
