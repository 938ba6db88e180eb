import { ECHO, ECHO_CALL } from '../reference/handlers.mjs';
import { makeRow, pick } from '../report/rows.mjs';
import { inTurn } from './pairs.mjs';

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

/**
 * What the manager adds to a call: through it, and straight to the worker it would have called. What a proxy adds that
 * does nothing but pass calls on says how much of that any program in between costs on this machine.
 */
export async function measureOverhead(stage) {
  const manager = await stage.manager();
  const load = stage.load();
  const id = await manager.upload(ECHO, { concurrency: CONCURRENCY, max_replicas: 1 });
  const [through, straight] = [manager.target(id), await manager.workerTarget(id)];
  const proxy = await stage.proxy(straight);
  const measured = [];
  for (const { connections, calls, count, seconds } of ROUNDS) {
    const round = (target, amount = calls) => load.round({ target, connections, calls: amount, ...ECHO_CALL });
    for (const target of [through, straight, proxy.target]) await round(target, WARM_UP_CALLS);
    const rounds = await inTurn(
      stage,
      { count, seconds },
      { ours: () => round(through), reference: () => round(straight), proxy: () => round(proxy.target) },
    );
    measured.push({ connections, rounds });
  }
  return {
    rows: measured.flatMap(({ connections, rounds }) => rowsOf(connections, rounds)),
    pairs: Object.fromEntries(measured.map(({ connections, rounds }) => [connections, rounds])),
  };
}

function rowsOf(connections, rounds) {
  const calls = `${connections} connection${connections > 1 ? 's' : ''}`;
  const row = (figure, pairs, percentile, limit) =>
    makeRow(pairs.map(pick((round) => round[percentile])), {
      figure: `${figure}, ${calls}, ${percentile}`,
      reference: 'same worker called directly',
      unit: 'ms',
      difference: true,
      ...limit,
    });
  const limit = {
    target: `adds ≤ ${MOST_ADDED_MS} ms`,
    meets: ({ difference }) => difference.median <= MOST_ADDED_MS,
  };
  const proxied = rounds.map(({ proxy, reference }) => ({ ours: proxy, reference }));
  return [
    row('call', rounds, 'p50', connections === 1 ? limit : {}),
    row('the bare proxy in our place', proxied, 'p50', {}),
    row('call', rounds, 'p99', {}),
  ];
}
