import { ECHO, ECHO_CALL } from '../reference/handlers.mjs';
import { countRow, makeRow } from '../report/rows.mjs';
import { memoryBytes } from '../stage/process-use.mjs';
import { untilAsleep } from '../stage/sleep.mjs';
import { inPairs } from './pairs.mjs';

const KIB = 1024;
const MIB = 1024 * KIB;
const FUNCTIONS = { count: 12, seconds: 60 };
const CALLS = 200;
/** What the first calls and the first sleep need once and for all is no function's. */
const WARM_UP_FUNCTIONS = 4;
const GONE_WITHIN_MS = 20_000;

/** What a function costs in memory while it is called, and once it sleeps; beside a plain FastAPI program. */
export async function measureMemory(stage) {
  const manager = await stage.manager({ inspect: true });
  const proxy = await stage.proxy({ origin: manager.origin });
  const ids = [];
  const call = (target) => stage.load().round({ target, connections: 1, calls: CALLS, ...ECHO_CALL });
  const active = async () => {
    const id = await manager.upload(ECHO, { max_replicas: 1 });
    ids.push(id);
    await call(manager.target(id));
    return stage.engine.workerMemory(id);
  };
  const plain = async () => {
    const worker = await stage.plainWorker();
    await call(worker.target('/def'));
    const memory = await worker.memory();
    await worker.end();
    return memory;
  };
  while (ids.length < WARM_UP_FUNCTIONS) await active();
  for (const id of ids) await untilAsleep(manager, id);
  const before = await manager.memory();
  const pairs = await inPairs(stage, FUNCTIONS, active, plain);
  const awake = await manager.memory();
  for (const id of ids) await untilAsleep(manager, id);
  const asleep = await manager.memory();
  const each = (now) => (now.live - before.live) / KIB / (ids.length - WARM_UP_FUNCTIONS);
  const rows = [
    workerRow(pairs),
    countRow({ figure: 'manager, for each active function', unit: 'KiB', ours: each(awake) }),
    countRow({ figure: 'manager, for each function just fallen asleep', unit: 'KiB', ours: each(asleep) }),
    await workersLeft(stage),
    ...(before.all === undefined ? [] : [managerRow(before.all, await memoryBytes(proxy.pid))]),
  ];
  return { rows, pairs, manager: { before, awake, asleep } };
}

function workerRow(pairs) {
  const inMiB = pairs.map(({ ours, reference }) => ({ ours: ours / MIB, reference: reference / MIB }));
  return makeRow(inMiB, { figure: 'worker of an active function', reference: 'plain FastAPI, uvicorn', unit: 'MiB' });
}

async function workersLeft({ engine }) {
  const until = performance.now() + GONE_WITHIN_MS;
  let { others } = await engine.census();
  while (others > 0 && performance.now() < until) ({ others } = await engine.census());
  const figure = 'workers of sleeping functions';
  return countRow({ figure, unit: 'workers', ours: others, target: 'none', meets: ({ ours }) => ours === 0 });
}

function managerRow(ours, reference) {
  const inMiB = [{ ours: ours / MIB, reference: reference / MIB }];
  return makeRow(inMiB, {
    figure: `manager with ${WARM_UP_FUNCTIONS} functions`,
    reference: 'bare proxy',
    unit: 'MiB',
  });
}
