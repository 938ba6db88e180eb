import { setTimeout as delay } from 'node:timers/promises';
import { ECHO } from '../reference/handlers.mjs';
import { countRow, makeRow, pick } from '../report/rows.mjs';
import { spread } from '../report/statistics.mjs';
import { fillWithFunctions } from '../stage/fill.mjs';
import { inPairs } from './pairs.mjs';

const MANY = 10_000;
const FEW = 100;
const BOOTS = { count: 6, seconds: 120 };
const LISTS = 30;
const SETTLED_WITHIN_MS = 60_000;
const LIMITS = { listMs: 50, bootMs: 5_000, bytesEach: 4 * 1024 };

/** A manager with very many functions that sleep, beside one with few: from its boot on. */
export async function measureMany(stage) {
  const [many, few] = [await stage.manager({ inspect: true }), await stage.manager({ inspect: true })];
  await fillWithFunctions(many, MANY, ECHO);
  await fillWithFunctions(few, FEW, ECHO);
  for (const manager of [many, few]) await manager.stop();
  const life = async (manager) => {
    try {
      const bootMs = await manager.boot();
      const settledMs = await settled(manager);
      const lists = [];
      while (lists.length < LISTS) lists.push(await list(manager));
      return { bootMs, settledMs, lists, memory: await manager.memory() };
    } finally {
      await manager.stop();
    }
  };
  const pairs = await inPairs(
    stage,
    BOOTS,
    () => life(many),
    () => life(few),
  );
  return { rows: rowsOf(pairs), pairs };
}

/** At its start a manager looks at every function: until it has. */
async function settled(manager) {
  const began = performance.now();
  for (;;) {
    const [{ due }] = await manager.query('SELECT count(*)::integer AS due FROM functions WHERE reconcile_at <= now()');
    const took = Math.round(performance.now() - began);
    if (due === 0) return took;
    if (took > SETTLED_WITHIN_MS) throw new Error(`${due} functions were still due after ${took} ms.`);
    await delay(50);
  }
}

async function list({ origin }) {
  const began = performance.now();
  const answer = await fetch(`${origin}/functions`);
  await answer.arrayBuffer();
  if (answer.status !== 200) throw new Error(`The list was answered ${answer.status}.`);
  return performance.now() - began;
}

function rowsOf(pairs) {
  const what = `${MANY} functions`;
  const reference = `${FEW} functions`;
  const row = (name, value, limit = {}) =>
    makeRow(pairs.map(pick(value)), { figure: `${what}: ${name}`, reference, ...limit });
  const lists = (quantile, limit = {}) =>
    row(`list, p${quantile * 100}`, (side) => side.lists, { unit: 'ms', quantile, ...limit });
  return [
    row('boot to ready', ({ bootMs }) => bootMs, { unit: 'ms', ...most(LIMITS.bootMs, 'ms') }),
    row('from then on, until all were looked at', ({ settledMs }) => settledMs, { unit: 'ms' }),
    lists(0.5),
    lists(0.95, most(LIMITS.listMs, 'ms')),
    memoryRow('what the manager holds, each', pairs, 'live', most(LIMITS.bytesEach, 'bytes')),
    ...(pairs[0].ours.memory.all === undefined ? [] : [memoryRow('what its process keeps, each', pairs, 'all')]),
  ];
}

function memoryRow(name, pairs, kind, limit = {}) {
  const each = pairs.map(({ ours, reference }) => (ours.memory[kind] - reference.memory[kind]) / (MANY - FEW));
  return countRow({ figure: `${MANY} functions: ${name}`, unit: 'bytes', ours: spread(each).median, ...limit });
}

function most(limit, unit) {
  return { target: `< ${limit} ${unit}`, meets: ({ ours }) => ours < limit };
}
