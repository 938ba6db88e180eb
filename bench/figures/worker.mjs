import { ECHO_CALL } from '../reference/handlers.mjs';
import { makeRow, pick } from '../report/rows.mjs';
import { inPairs } from './pairs.mjs';

const CONNECTIONS = 16;
const PAIRS = { count: 8, seconds: 20 };
const ROUND_SECONDS = 1;
const LEAST_RATIO = 1.5;
const VARIANTS = [
  { handler: 'handle', path: '/def', text: 'def' },
  { handler: 'handle_async', path: '/async', text: 'async def' },
];
const SLEEPERS = 32;
const MOST_SLEEP_MS = 250;

/** The worker's hot route and a plain FastAPI route around the same handlers, both straight over loopback. */
export async function measureWorker(stage) {
  const plain = await stage.plainRoutes();
  const measured = [];
  for (const variant of VARIANTS) measured.push(await throughput(stage, plain, variant));
  measured.push(await sleepers(stage, plain));
  return {
    rows: measured.map(({ row }) => row),
    pairs: Object.fromEntries(measured.map(({ row, pairs }) => [row.figure, pairs])),
  };
}

async function throughput(stage, plain, { handler, path, text }) {
  const load = stage.load();
  const worker = await stage.worker(handler);
  const round = (target) => load.round({ target, connections: CONNECTIONS, seconds: ROUND_SECONDS, ...ECHO_CALL });
  for (const target of [worker.target, plain.target(path)]) await round(target);
  const pairs = await inPairs(
    stage,
    PAIRS,
    () => round(worker.target),
    () => round(plain.target(path)),
  );
  await worker.end();
  const row = makeRow(pairs.map(pick(({ perSecond }) => perSecond)), {
    figure: `worker, ${text} handler, ${CONNECTIONS} connections`,
    reference: `plain FastAPI route, ${text}`,
    unit: 'calls/s',
    target: `≥ ${LEAST_RATIO} ×`,
    meets: ({ ratio }) => ratio.median >= LEAST_RATIO,
  });
  return { row, pairs };
}

/** Threads are what a `def` handler that waits needs: the plain route has forty. */
async function sleepers(stage, plain) {
  const load = stage.load();
  const worker = await stage.worker('sleep');
  const round = (target) => load.round({ target, connections: SLEEPERS, calls: SLEEPERS, ...ECHO_CALL });
  for (const target of [worker.target, plain.target('/sleep')]) await round(target);
  const pairs = await inPairs(
    stage,
    PAIRS,
    () => round(worker.target),
    () => round(plain.target('/sleep')),
  );
  await worker.end();
  const row = makeRow(pairs.map(pick(({ elapsedMs }) => elapsedMs)), {
    figure: `${SLEEPERS} handlers that sleep 100 ms, one worker`,
    reference: 'plain FastAPI route, def',
    unit: 'ms',
    target: `< ${MOST_SLEEP_MS} ms`,
    meets: ({ ours }) => ours < MOST_SLEEP_MS,
  });
  return { row, pairs };
}
