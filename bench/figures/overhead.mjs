import { ECHO, ECHO_CALL } from '../reference/handlers.mjs';
import { makeRow, pick } from '../report/rows.mjs';
import { inPairs } from './pairs.mjs';

/** Short rounds and many: a disturbance spoils one pair. */
const ROUNDS = [
  { connections: 1, calls: 300, count: 24, seconds: 25 },
  { connections: 16, calls: 2_000, count: 16, seconds: 25 },
  { connections: 64, calls: 4_000, count: 12, seconds: 25 },
];
/** As many slots as connections, so that no call waits for one. */
const CONCURRENCY = 64;
const WARM_UP_CALLS = 3_000;
const MOST_ADDED_MS = 0.25;

/** What the manager adds to a call: through it, and straight to the worker it would have called. */
export async function measureOverhead(stage) {
  const manager = await stage.manager();
  const load = stage.load();
  const id = await manager.upload(ECHO, { concurrency: CONCURRENCY, max_replicas: 1 });
  const [through, straight] = [manager.target(id), await stage.engine.workerTarget(id)];
  const measured = [];
  for (const { connections, calls, count, seconds } of ROUNDS) {
    const round = (target, amount = calls) => load.round({ target, connections, calls: amount, ...ECHO_CALL });
    for (const target of [through, straight]) await round(target, WARM_UP_CALLS);
    const pairs = await inPairs(
      stage,
      { count, seconds },
      () => round(through),
      () => round(straight),
    );
    measured.push({ connections, pairs });
  }
  return {
    rows: measured.flatMap(({ connections, pairs }) => rowsOf(connections, pairs)),
    pairs: Object.fromEntries(measured.map(({ connections, pairs }) => [connections, pairs])),
  };
}

function rowsOf(connections, pairs) {
  const row = (percentile, limit) =>
    makeRow(pairs.map(pick((round) => round[percentile])), {
      figure: `call, ${connections} connection${connections > 1 ? 's' : ''}, ${percentile}`,
      reference: 'same worker called directly',
      unit: 'ms',
      difference: true,
      ...limit,
    });
  const limit = {
    target: `adds ≤ ${MOST_ADDED_MS} ms`,
    meets: ({ difference }) => difference.median <= MOST_ADDED_MS,
  };
  return [row('p50', connections === 1 ? limit : {}), row('p99', {})];
}
