import { ECHO, ECHO_CALL } from '../reference/handlers.mjs';
import { makeRow, pick } from '../report/rows.mjs';
import { cpuMicroseconds } from '../stage/process-use.mjs';
import { inPairs } from './pairs.mjs';

const CONNECTIONS = 16;
/** Short rounds and many: a disturbance spoils one pair. */
const PAIRS = { count: 40, seconds: 40 };
const ROUND_SECONDS = 0.4;
const WARM_UP_SECONDS = 1.5;
const LEAST_RATIO = 0.9;

/** Calls per second through the manager, and through a proxy that does nothing but pass them to the same worker. */
export async function measureThroughput(stage) {
  const manager = await stage.manager();
  const load = stage.load();
  const id = await manager.upload(ECHO, { max_replicas: 1 });
  const proxy = await stage.proxy(await manager.workerTarget(id));
  const round = async ({ target, pid }, seconds = ROUND_SECONDS) => {
    const before = await cpuMicroseconds(pid);
    const answered = await load.round({ target, connections: CONNECTIONS, seconds, ...ECHO_CALL });
    const after = await cpuMicroseconds(pid);
    return { ...answered, cpuPerCall: after === undefined ? null : Math.round((after - before) / answered.calls) };
  };
  const through = { target: manager.target(id), pid: manager.pid };
  for (const way of [through, proxy]) await round(way, WARM_UP_SECONDS);
  const pairs = await inPairs(
    stage,
    PAIRS,
    () => round(through),
    () => round(proxy),
  );
  return { rows: rowsOf(pairs), pairs };
}

function rowsOf(pairs) {
  const reference = 'bare node:http + undici proxy';
  const throughput = makeRow(pairs.map(pick(({ perSecond }) => perSecond)), {
    figure: `throughput, ${CONNECTIONS} connections`,
    reference,
    unit: 'calls/s',
    target: `≥ ${LEAST_RATIO} ×`,
    meets: ({ ratio }) => ratio.median >= LEAST_RATIO,
  });
  if (pairs.some(({ ours }) => ours.cpuPerCall === null)) return [throughput];
  const cpu = { figure: 'processor time per call at that', reference, unit: 'µs' };
  return [throughput, makeRow(pairs.map(pick(({ cpuPerCall }) => cpuPerCall)), cpu)];
}
