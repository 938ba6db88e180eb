import { ECHO, ECHO_CALL } from '../reference/handlers.mjs';
import { makeRow, pick } from '../report/rows.mjs';
import { cpuMicroseconds } from '../stage/process-use.mjs';
import { inTurn } from './pairs.mjs';

const MANY = 16;
/** Short rounds and several: a disturbance spoils one pair. */
const ROUNDS = { count: 20, seconds: 150 };
const ROUND_SECONDS = 1;
const WARM_UP_SECONDS = 2;

const BARE = 'bare node:http + undici proxy';
const GO = 'Go’s httputil.ReverseProxy';
const LIMITS = {
  throughput: { target: '≥ 0.9 ×', meets: ({ ratio }) => ratio.median >= 0.9 },
  cpu: { target: '≤ 1.25 ×', meets: ({ ratio }) => ratio.median <= 1.25 },
  slowest: { target: '≤ 1.3 ×', meets: ({ ratio }) => ratio.median <= 1.3 },
  noSlower: { target: '≤ 1 ×', meets: ({ ratio }) => ratio.median <= 1 },
};

/**
 * Calls through the manager, and through proxies that do nothing but pass them to the same worker: one in Node, and
 * where there is Go, its own.
 */
export async function measureThroughput(stage) {
  const manager = await stage.manager();
  const id = await manager.upload(ECHO, { max_replicas: 1 });
  const worker = await manager.workerTarget(id);
  const [bare, go] = [await stage.proxy(worker), await stage.goProxy(worker)];
  const ways = { ours: { target: manager.target(id), pid: manager.pid }, bare, ...(go && { go }) };
  // One that reads what it is answered, first.
  for (const { target } of Object.values(ways))
    await stage.load().round({ target, connections: MANY, calls: 500, ...ECHO_CALL });
  const load = await stage.leanLoad();
  const round = async ({ target, pid }, connections, seconds = ROUND_SECONDS) => {
    const before = await cpuMicroseconds(pid);
    const answered = await load.round({ target, connections, seconds, ...ECHO_CALL });
    const after = await cpuMicroseconds(pid);
    return { ...answered, cpuPerCall: after === undefined ? null : Math.round((after - before) / answered.calls) };
  };
  const all = {};
  for (const connections of [MANY, 1]) {
    for (const way of Object.values(ways)) await round(way, connections, WARM_UP_SECONDS);
    const sides = Object.entries(ways).map(([name, way]) => [name, () => round(way, connections)]);
    all[connections] = await inTurn(stage, ROUNDS, Object.fromEntries(sides));
  }
  return { rows: rowsOf(all, go !== undefined), pairs: all };
}

function rowsOf({ [MANY]: many, 1: one }, hasGo) {
  const against = (rounds, reference) => rounds.map((round) => ({ ours: round.ours, reference: round[reference] }));
  const row = (figure, rounds, reference, value, unit, limit) =>
    makeRow(against(rounds, reference).map(pick((side) => side[value])), {
      figure,
      reference: reference === 'go' ? GO : BARE,
      unit,
      ...limit,
    });
  const rows = [
    row(`throughput, ${MANY} connections`, many, 'bare', 'perSecond', 'calls/s', LIMITS.throughput),
    row('processor time per call at that', many, 'bare', 'cpuPerCall', 'µs', LIMITS.cpu),
    row('p99 at that', many, 'bare', 'p99', 'ms', LIMITS.slowest),
    row('1 connection, p50', one, 'bare', 'p50', 'ms'),
  ];
  if (hasGo) {
    rows.push(
      row(`throughput, ${MANY} connections`, many, 'go', 'perSecond', 'calls/s'),
      row('processor time per call at that', many, 'go', 'cpuPerCall', 'µs'),
      row('p99 at that', many, 'go', 'p99', 'ms', LIMITS.noSlower),
      row('1 connection, p50', one, 'go', 'p50', 'ms', LIMITS.noSlower),
    );
  }
  return rows.filter(({ ours }) => ours !== null);
}
