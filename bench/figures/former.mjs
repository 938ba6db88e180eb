import { ECHO, ECHO_CALL } from '../reference/handlers.mjs';
import { makeRow, pick } from '../report/rows.mjs';
import { cpuMicroseconds } from '../stage/process-use.mjs';
import { untilQuiet } from '../stage/quiet.mjs';
import { untilAsleep } from '../stage/sleep.mjs';
import { deploy } from './deploy.mjs';
import { COMPILED_SECONDS, inPairs, inTurn, overStarts } from './pairs.mjs';

/** Of each start. Short rounds and many: a disturbance spoils one pair. */
const LATENCY = { count: 12, seconds: 15, calls: 300 };
const THROUGHPUT = { count: 16, seconds: 25, connections: 16, roundSeconds: 0.4 };
const WORKER = { count: 40, seconds: 40, connections: 16, roundSeconds: 0.4 };
const WAKES = { count: 40, seconds: 150 };
const DEPLOYS = { count: 40, seconds: 150 };
const POOL_SIZE = 2;
const WARM_UP_SECONDS = 1.5;
const MOST_RATIO = 1.03;
const REFERENCE = 'the former revision';
const HANDLERS = { def: 'handle', 'async def': 'handle_async' };

const most = { target: `≤ ${MOST_RATIO} ×`, meets: ({ ratio }) => ratio.median <= MOST_RATIO };
const least = { target: `≥ 1 / ${MOST_RATIO} ×`, meets: ({ ratio }) => ratio.median >= 1 / MOST_RATIO };

/**
 * This revision and another one, each with its own manager, database and worker, in the same run: what a change costs a
 * call, a worker, a wake and an upload. The other is a checkout with its program built, named by `--former`.
 */
export async function measureFormer(stage) {
  if (stage.options.former === '') throw new Error('Name a checkout of the former revision: --former DIRECTORY.');
  const parts = [await callsOfStarts(stage)];
  for (const [text, handler] of Object.entries(HANDLERS)) parts.push(await workers(stage, handler, text));
  parts.push(await wakesAndDeploys(stage));
  return {
    rows: parts.flatMap(({ rows }) => rows),
    pairs: Object.assign({}, ...parts.map(({ pairs }) => pairs)),
  };
}

async function callsOfStarts(stage) {
  const starts = await overStarts(stage, calls);
  const [single, many] = [starts.flatMap((start) => start.single), starts.flatMap((start) => start.many)];
  const withHistory = ({ kept, reference }) => ({ ours: kept, reference });
  const rows = [
    ...rowsOfCalls(single, many, 'no history', { most, least }),
    ...rowsOfCalls(single.map(withHistory), many.map(withHistory), 'with history', {}, `${REFERENCE}, no history`),
  ];
  return { rows, pairs: { single, many } };
}

/** A former revision may have no history: what that costs has a figure of its own, and is shown here apart. */
async function calls(stage, isReversed) {
  const { former } = stage.options;
  const starts = {
    ours: () => stage.manager({ environment: { HISTORY: 'off' } }),
    kept: () => stage.manager(),
    reference: () => stage.manager({ root: former, environment: { HISTORY: 'off', ...formerImage(stage) } }),
  };
  const names = Object.keys(starts);
  const sides = {};
  for (const name of isReversed ? names.toReversed() : names) sides[name] = await targetOf(await starts[name]());
  const load = stage.load();
  const round = async ({ target, pid }, amount) => {
    const before = await cpuMicroseconds(pid);
    const answered = await load.round({ target, ...amount, ...ECHO_CALL });
    const after = await cpuMicroseconds(pid);
    return { ...answered, cpuPerCall: after === undefined ? null : (after - before) / answered.calls };
  };
  const measure = (limits, amount) =>
    inTurn(stage, limits, Object.fromEntries(names.map((name) => [name, () => round(sides[name], amount)])));
  const loaded = { connections: THROUGHPUT.connections, seconds: THROUGHPUT.roundSeconds };
  for (const side of Object.values(sides)) await round(side, { ...loaded, seconds: COMPILED_SECONDS });
  const single = await measure(LATENCY, { connections: 1, calls: LATENCY.calls });
  const many = await measure(THROUGHPUT, loaded);
  await Promise.all(Object.values(sides).map(({ remove }) => remove()));
  return { single, many };
}

async function workers(stage, handler, text) {
  const sides = await Promise.all([stage.worker(handler), stage.worker(handler, stage.options.former)]);
  const load = stage.load();
  const { connections } = WORKER;
  const round = ({ target }, seconds) => load.round({ target, connections, seconds, ...ECHO_CALL });
  for (const side of sides) await round(side, WARM_UP_SECONDS);
  const pairs = await inPairs(stage, WORKER, ...sides.map((side) => () => round(side, WORKER.roundSeconds)));
  for (const side of sides) await side.end();
  const figure = `worker, ${text} handler, ${connections} connections`;
  return { rows: [row(figure, 'calls/s', pairs, ({ perSecond }) => perSecond, least)], pairs: { [text]: pairs } };
}

/** Of functions that sleep, and of new ones, both with workers that wait in a pool. */
async function wakesAndDeploys(stage) {
  const { engine } = stage;
  const managers = await bothManagers(stage, { WARM_POOL_SIZE: String(POOL_SIZE), SCALE_INTERVAL_MS: '100' });
  const generic = managers.length * POOL_SIZE;
  const sides = await Promise.all(managers.map(targetOf));
  const wake = async ({ target }) => {
    for (const side of sides) await untilAsleep(side.manager, side.id);
    await untilQuiet(engine, { generic });
    return (await stage.load().round({ target, connections: 1, calls: 1, ...ECHO_CALL })).p50;
  };
  for (const side of sides) await wake(side);
  const wakes = await inPairs(stage, WAKES, ...sides.map((side) => () => wake(side)));
  await Promise.all(sides.map(({ remove }) => remove()));
  const deploys = await inPairs(stage, DEPLOYS, ...managers.map((manager) => () => deploy(manager, engine, generic)));
  const rows = [
    row('wake from the pool, first answer', 'ms', wakes, (ms) => ms, most),
    row('deploy from the pool, upload to first answer', 'ms', deploys, (ms) => ms, most),
  ];
  return { rows, pairs: { wakes, deploys } };
}

async function bothManagers(stage, environment) {
  const { former } = stage.options;
  return [
    await stage.manager({ environment }),
    await stage.manager({ root: former, environment: { ...environment, ...formerImage(stage) } }),
  ];
}

function formerImage({ options: { 'former-image': image } }) {
  return image === '' ? {} : { WORKER_IMAGE: image };
}

async function targetOf(manager) {
  const id = await manager.upload(ECHO, { max_replicas: 1 });
  return { manager, id, target: manager.target(id), pid: manager.pid, remove: () => manager.remove(id) };
}

function rowsOfCalls(single, many, how, limits, reference = REFERENCE) {
  const of = (figure, unit, pairs, value, limit) => row(`${figure}, ${how}`, unit, pairs, value, limit, reference);
  const at = `${THROUGHPUT.connections} connections`;
  const rows = [
    of('call, 1 connection, p50', 'ms', single, ({ p50 }) => p50, limits.most),
    of(`throughput, ${at}`, 'calls/s', many, ({ perSecond }) => perSecond, limits.least),
  ];
  if (many.some(({ ours }) => ours.cpuPerCall === null)) return rows;
  return [...rows, of(`processor time per call, ${at}`, 'µs', many, ({ cpuPerCall }) => cpuPerCall, limits.most)];
}

function row(figure, unit, pairs, value, limit, reference = REFERENCE) {
  return makeRow(pairs.map(pick(value)), { figure, reference, unit, ...limit });
}
