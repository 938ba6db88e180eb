import { Client } from 'undici';
import { ECHO, ECHO_CALL, WEB_APP, WEB_APP_ALONE } from '../reference/handlers.mjs';
import { countRow, makeRow, pick } from '../report/rows.mjs';
import { quantileOf } from '../report/statistics.mjs';
import { memoryBytes } from '../stage/process-use.mjs';
import { inPairs, inTurn } from './pairs.mjs';

const CONCURRENCY = 64;
const WARM_UP_CALLS = 3_000;
const CALLS = 300;
const ROUNDS = { count: 24, seconds: 40 };
const STREAMS = 20;
const STREAM_ROUNDS = { count: 12, seconds: 20 };
const MEBIBYTES = 1024;
const WARM_UP_MEBIBYTES = 256;
const LARGE_ROUNDS = { count: 3, seconds: 90 };
const SAMPLE_MS = 50;
const MIB = 1024 * 1024;

/** Calls over HTTP: beside `execute`, a web application beside uvicorn alone, and streams. */
export async function measureHttp(stage) {
  const manager = await stage.manager();
  const settings = { concurrency: CONCURRENCY, max_replicas: 1, min_replicas: 1 };
  const echo = await manager.upload(ECHO, settings);
  const web = await manager.upload(WEB_APP, { ...settings, timeout_ms: 600_000 });
  const alone = await stage.plainWorker(WEB_APP_ALONE);
  const through = (path) => ({ origin: manager.origin, path: `/f/${web}${path}` });
  const calls = await measureCalls(stage, {
    execute: { target: manager.target(echo), ...ECHO_CALL },
    worker: { target: await manager.workerTarget(echo), ...ECHO_CALL },
    // A payload handler's answer over HTTP is the text itself.
    http: { target: { origin: manager.origin, path: `/f/${echo}` }, body: ECHO_CALL.body, answer: ECHO_CALL.body },
    application: { target: through('/echo'), ...ECHO_CALL },
    alone: { target: alone.target('/echo'), ...ECHO_CALL },
  });
  const streams = await measureFirstBytes(stage, through('/stream'), alone.target('/stream'));
  const large = await measureLarge(stage, manager, through, alone.target);
  return { rows: [...calls.rows, ...streams.rows, ...large.rows], pairs: { ...calls.pairs, streams: streams.pairs } };
}

async function measureCalls(stage, ways) {
  const load = stage.load();
  const round = (way, amount = CALLS) => load.round({ ...way, connections: 1, calls: amount });
  for (const way of Object.values(ways)) await round(way, WARM_UP_CALLS);
  const sides = Object.fromEntries(Object.entries(ways).map(([name, way]) => [name, () => round(way)]));
  const rounds = await inTurn(stage, ROUNDS, sides);
  const against = (ours, reference) => rounds.map((one) => ({ ours: ours(one), reference: reference(one) }));
  const p50 = (name) => (one) => one[name].p50;
  const added = (name, straight) => (one) => one[name].p50 - one[straight].p50;
  const rows = [
    makeRow(against(p50('http'), p50('execute')), {
      figure: 'call over HTTP, small JSON, 1 connection, p50',
      reference: 'execute',
      unit: 'ms',
      target: '≤ 1.15 ×',
      meets: ({ ratio }) => ratio.median <= 1.15,
    }),
    makeRow(against(p50('application'), p50('alone')), {
      figure: 'FastAPI application, small JSON, 1 connection, p50',
      reference: 'uvicorn serving it',
      unit: 'ms',
      difference: true,
    }),
    makeRow(against(added('application', 'alone'), added('execute', 'worker')), {
      figure: 'what is added to it',
      reference: 'what execute adds',
      unit: 'ms',
      target: '≤ 1.25 ×',
      meets: ({ ratio }) => ratio.median <= 1.25,
    }),
  ];
  return { rows, pairs: { calls: rounds } };
}

/** From sending a request to the first byte of its answer's body, which goes on for a while. */
async function measureFirstBytes(stage, through, alone) {
  const clients = [through, alone].map((target) => [clientOf(target), target.path]);
  const round = async ([client, path]) => {
    const times = [];
    for (let count = 0; count < STREAMS; count += 1) times.push(await firstByte(client, path));
    return quantileOf(times, 0.5);
  };
  for (const way of clients) await round(way);
  const [ours, reference] = clients;
  const pairs = await inPairs(
    stage,
    STREAM_ROUNDS,
    () => round(ours),
    () => round(reference),
  );
  await Promise.all(clients.map(([client]) => client.close()));
  const row = makeRow(pairs.map(pick((value) => value)), {
    figure: 'first byte of a stream, p50',
    reference: 'uvicorn serving it',
    unit: 'ms',
    difference: true,
    target: '≤ 2 ms later',
    meets: ({ difference }) => difference.median <= 2,
  });
  return { rows: [row], pairs };
}

async function firstByte(client, path) {
  const began = performance.now();
  const { statusCode, body } = await client.request({ method: 'GET', path });
  let first;
  for await (const _ of body) first ??= performance.now() - began;
  if (statusCode !== 200) throw new Error(`A stream was answered ${statusCode}.`);
  return first;
}

/** As fast as it is read, and what the manager's process keeps of it meanwhile. */
async function measureLarge(stage, manager, through, alone) {
  const mebibytes = Math.max(WARM_UP_MEBIBYTES, Math.round(MEBIBYTES * stage.share));
  await readAll(through(`/bytes/${WARM_UP_MEBIBYTES}`), WARM_UP_MEBIBYTES);
  const before = await memoryBytes(manager.pid);
  let most = 0;
  const sampling = setInterval(() => {
    void memoryBytes(manager.pid).then((bytes) => (most = Math.max(most, bytes ?? 0)));
  }, SAMPLE_MS);
  const pairs = await inPairs(
    stage,
    LARGE_ROUNDS,
    () => readAll(through(`/bytes/${mebibytes}`), mebibytes),
    () => readAll(alone(`/bytes/${mebibytes}`), mebibytes),
  );
  clearInterval(sampling);
  const rows = [
    makeRow(pairs.map(pick((value) => value)), {
      figure: `a stream of ${mebibytes} MiB`,
      reference: 'uvicorn serving it',
      unit: 's',
    }),
  ];
  if (before !== undefined) {
    rows.push(
      countRow({
        figure: 'what the manager keeps more of memory meanwhile',
        unit: 'MiB',
        ours: (most - before) / MIB,
        target: '< 16 MiB',
        meets: ({ ours }) => ours < 16,
      }),
    );
  }
  return { rows };
}

/** Seconds until all of it has arrived. */
async function readAll(target, mebibytes) {
  const client = clientOf(target);
  const began = performance.now();
  const { body } = await client.request({ method: 'GET', path: target.path });
  let bytes = 0;
  for await (const chunk of body) bytes += chunk.length;
  await client.close();
  if (bytes !== mebibytes * MIB) throw new Error(`${bytes} bytes came.`);
  return (performance.now() - began) / 1000;
}

function clientOf({ origin, socketPath }) {
  return new Client(origin, { bodyTimeout: 0, ...(socketPath === undefined ? {} : { connect: { socketPath } }) });
}
