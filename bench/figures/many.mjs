import { setTimeout as delay } from 'node:timers/promises';
import { ECHO } from '../reference/handlers.mjs';
import { countRow, makeRow, pick } from '../report/rows.mjs';
import { spread } from '../report/statistics.mjs';
import { cpuMicroseconds } from '../stage/process-use.mjs';
import { fillWithFunctions, functionId } from '../stage/fill.mjs';
import { inPairs } from './pairs.mjs';

const MANY = 10_000;
const SCHEDULES = 1_000;
const FEW = 100;
const BOOTS = { count: 6, seconds: 120 };
const PAGE = 100;
/** Pages in a row, and lists of everything, in each life. */
const LISTS = { pages: 50, wholes: 5 };
const SETTLED_WITHIN_MS = 60_000;
const IDLE = { settleMs: 5_000, seconds: 30 };
const LIMITS = { pageMs: 50, bootMs: 5_000, bytesEach: 4 * 1024, statements: 1, withSchedules: 2, percent: 0.5 };

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
      const lists = await listAll(manager);
      return { bootMs, settledMs, ...lists, memory: await manager.memory() };
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
  await many.boot();
  await settled(many);
  const seconds = Math.max(IDLE.seconds * stage.share, 5);
  const idle = await idleCost(many, seconds);
  await addSchedules(many);
  const scheduled = await idleCost(many, seconds);
  await many.stop();
  const { statements, withSchedules } = LIMITS;
  const what = `${MANY} functions that sleep`;
  const rows = [
    ...rowsOf(pairs),
    ...idleRows(what, idle, statements),
    ...idleRows(`${what} with ${SCHEDULES} schedules`, scheduled, withSchedules),
  ];
  return { rows, pairs, idle, scheduled };
}

/** None of which comes while it is measured: most schedules come at night. */
async function addSchedules(manager) {
  const hour = (new Date().getUTCHours() + 12) % 24;
  for (let number = 1; number <= SCHEDULES; number += 1) {
    const answer = await fetch(`${manager.origin}/functions/${functionId(number)}/schedules/nightly`, {
      method: 'PUT',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ cron: `${number % 60} ${hour} * * *` }),
    });
    const text = await answer.text();
    if (answer.status !== 201) throw new Error(`A schedule was answered ${answer.status}: ${text}`);
  }
}

/** What a manager does when nobody asks anything of it: statements a second, and the share of a processor. */
async function idleCost(manager, seconds) {
  await delay(IDLE.settleMs);
  const look = async () => {
    const [{ statements }] = await manager.query(
      'SELECT xact_commit::float8 AS statements FROM pg_stat_database WHERE datname = current_database()',
    );
    return { statements, at: performance.now(), cpu: await cpuMicroseconds(manager.pid) };
  };
  const before = await look();
  await delay(seconds * 1_000);
  const after = await look();
  const ms = after.at - before.at;
  // The look itself was one of them.
  const perSecond = Math.max((after.statements - before.statements - 1) / (ms / 1_000), 0);
  const share = before.cpu === undefined ? undefined : ((after.cpu - before.cpu) / (ms * 1_000)) * 100;
  return { perSecond, share };
}

function idleRows(figure, { perSecond, share }, statements) {
  const { percent } = LIMITS;
  return [
    countRow({ figure: `${figure}: statements`, unit: '/s', ours: round(perSecond), ...most(statements, '/s') }),
    ...(share === undefined
      ? []
      : [countRow({ figure: `${figure}: of one processor`, unit: '%', ours: round(share), ...most(percent, '%') })]),
  ];
}

function round(value) {
  return Math.round(value * 100) / 100;
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

/** Page after page as a client does, from the start again after the last one; and everything at once. */
async function listAll({ origin }) {
  const first = `/functions?limit=${PAGE}`;
  const [pages, wholes] = [[], []];
  for (let path = first; pages.length < LISTS.pages;) {
    const { ms, next } = await list(origin, path);
    pages.push(ms);
    path = next ?? first;
  }
  while (wholes.length < LISTS.wholes) wholes.push((await list(origin, '/functions')).ms);
  return { pages, wholes };
}

async function list(origin, path) {
  const began = performance.now();
  const answer = await fetch(`${origin}${path}`);
  await answer.arrayBuffer();
  if (answer.status !== 200) throw new Error(`The list was answered ${answer.status}.`);
  const ms = Math.round((performance.now() - began) * 100) / 100;
  return { ms, next: /<([^>]+)>; rel="next"/.exec(answer.headers.get('link') ?? '')?.[1] };
}

function rowsOf(pairs) {
  const what = `${MANY} functions`;
  const reference = `${FEW} functions`;
  const row = (name, value, limit = {}) =>
    makeRow(pairs.map(pick(value)), { figure: `${what}: ${name}`, reference, ...limit });
  const page = (quantile, limit = {}) =>
    row(`a page of ${PAGE}, p${quantile * 100}`, ({ pages }) => pages, { unit: 'ms', quantile, ...limit });
  return [
    row('boot to ready', ({ bootMs }) => bootMs, { unit: 'ms', ...most(LIMITS.bootMs, 'ms') }),
    row('from then on, until all were looked at', ({ settledMs }) => settledMs, { unit: 'ms' }),
    page(0.5),
    page(0.95, most(LIMITS.pageMs, 'ms')),
    row('the whole list', ({ wholes }) => wholes, { unit: 'ms' }),
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
