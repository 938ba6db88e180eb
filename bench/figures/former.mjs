import { ECHO, ECHO_CALL } from '../reference/handlers.mjs';
import { makeRow, pick } from '../report/rows.mjs';
import { cpuMicroseconds } from '../stage/process-use.mjs';
import { inPairs } from './pairs.mjs';

/** Short rounds and many: a disturbance spoils one pair. */
const LATENCY = { count: 60, seconds: 40, calls: 300 };
const THROUGHPUT = { count: 60, seconds: 60, connections: 16, roundSeconds: 0.4 };
const WARM_UP_SECONDS = 1.5;
const MOST_RATIO = 1.03;
const REFERENCE = 'the former revision';

/**
 * This revision and another one, each with its own manager, database and worker, in the same run: what a change costs a
 * call. The other is a checkout with its program built, named by `--former`.
 */
export async function measureFormer(stage) {
  const { former, 'former-image': image } = stage.options;
  if (former === '') throw new Error('Name a checkout of the former revision: --former DIRECTORY.');
  const environment = image === '' ? {} : { WORKER_IMAGE: image };
  const managers = [await stage.manager(), await stage.manager({ root: former, environment })];
  const [ours, reference] = await Promise.all(managers.map(targetOf));
  const load = stage.load();
  const round = async ({ target, pid }, amount) => {
    const before = await cpuMicroseconds(pid);
    const answered = await load.round({ target, ...amount, ...ECHO_CALL });
    const after = await cpuMicroseconds(pid);
    return { ...answered, cpuPerCall: after === undefined ? null : (after - before) / answered.calls };
  };
  const measure = (limits, amount) =>
    inPairs(
      stage,
      limits,
      () => round(ours, amount),
      () => round(reference, amount),
    );
  const loaded = { connections: THROUGHPUT.connections, seconds: THROUGHPUT.roundSeconds };
  for (const side of [ours, reference]) await round(side, { ...loaded, seconds: WARM_UP_SECONDS });
  const single = await measure(LATENCY, { connections: 1, calls: LATENCY.calls });
  const many = await measure(THROUGHPUT, loaded);
  return { rows: rowsOf(single, many), pairs: { single, many } };
}

async function targetOf(manager) {
  const id = await manager.upload(ECHO, { max_replicas: 1 });
  return { target: manager.target(id), pid: manager.pid };
}

function rowsOf(single, many) {
  const row = (figure, unit, pairs, value, limit) =>
    makeRow(pairs.map(pick(value)), { figure, reference: REFERENCE, unit, ...limit });
  const most = { target: `≤ ${MOST_RATIO} ×`, meets: ({ ratio }) => ratio.median <= MOST_RATIO };
  const least = { target: `≥ 1 / ${MOST_RATIO} ×`, meets: ({ ratio }) => ratio.median >= 1 / MOST_RATIO };
  const at = `${THROUGHPUT.connections} connections`;
  const rows = [
    row('call, 1 connection, p50', 'ms', single, ({ p50 }) => p50, most),
    row(`throughput, ${at}`, 'calls/s', many, ({ perSecond }) => perSecond, least),
  ];
  if (many.some(({ ours }) => ours.cpuPerCall === null)) return rows;
  return [...rows, row(`processor time per call, ${at}`, 'µs', many, ({ cpuPerCall }) => cpuPerCall, most)];
}
