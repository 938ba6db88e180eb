import { setTimeout as delay } from 'node:timers/promises';
import { ECHO } from '../reference/handlers.mjs';
import { countRow, makeRow } from '../report/rows.mjs';
import { quantileOf } from '../report/statistics.mjs';
import { startByHand } from '../stage/by-hand.mjs';
import { openFiles } from '../stage/process-use.mjs';

const KIB = 1024;
const DEPLOYS = { count: 1_000, seconds: 1_200, fewest: 50 };
/** Memory and files are looked at this often. */
const LOOKS = 10;
/** After so many deploys a worker is started by hand: when that gets slower too, it is the machine that does. */
const BY_HAND_EVERY = 10;
const GONE_WITHIN_MS = 20_000;
const LIMITS = { drift: 1.25, kibEach: 1, files: 16 };

/** Functions uploaded, called and removed, one after the other: does it get slower, and does anything stay behind? */
export async function measureDeploys(stage) {
  const manager = await stage.manager({ inspect: true, environment: { WARM_POOL_SIZE: '2' } });
  const count = Math.max(DEPLOYS.fewest, Math.round(DEPLOYS.count * stage.share));
  const until = performance.now() + DEPLOYS.seconds * stage.share * 1000;
  const seen = { times: [], byHand: [], failures: [], looks: [] };
  for (let made = 0; made < count && (made < DEPLOYS.fewest || performance.now() < until); made += 1) {
    await deploy(stage, manager, seen);
    if ((made + 1) % BY_HAND_EVERY === 0) seen.byHand.push(await startByHand(stage.engine, ECHO));
    if ((made + 1) % Math.round(count / LOOKS) === 0) seen.looks.push(await look(manager, made + 1));
  }
  const left = await leftovers(stage.engine, manager);
  return { rows: rowsOf(seen, left), left, ...seen };
}

async function deploy(stage, manager, { times, failures }) {
  try {
    const began = performance.now();
    const id = await manager.upload(ECHO);
    const { status, text } = await manager.call(id, 'hello');
    times.push(Math.round((performance.now() - began) * 10) / 10);
    await manager.remove(id);
    if (status !== 200) throw new Error(`The first call was answered ${status}: ${text}`);
  } catch (error) {
    if (stage.undo.begun) throw error;
    failures.push(error.message);
  }
}

async function look(manager, made) {
  const { live, all } = await manager.memory();
  return { made, live, all, files: await openFiles(manager.pid) };
}

/** What is still there once the last removals have had their time. */
async function leftovers(engine, manager) {
  const until = performance.now() + GONE_WITHIN_MS;
  for (;;) {
    const [{ rows }] = await manager.query('SELECT count(*)::integer AS rows FROM functions');
    const left = { rows, engine: await engine.leftovers(manager.owner) };
    if (left.rows + left.engine === 0 || performance.now() > until) return left;
    await delay(100);
  }
}

function rowsOf({ times, byHand, failures, looks }, left) {
  const what = `${times.length} deploys in a row`;
  const none = { target: 'none', meets: ({ ours }) => ours === 0 };
  return [
    lastFifthRow(what, times, 'deploy'),
    lastFifthRow(what, byHand, 'worker started by hand in between'),
    driftRow(what, times, byHand),
    countRow({ figure: `${what}: p99`, unit: 'ms', ours: quantileOf(times, 0.99) }),
    countRow({ figure: `${what}: failures`, unit: 'deploys', ours: failures.length, ...none }),
    countRow({
      figure: `${what}: rows, workers, volumes left`,
      unit: 'things',
      ours: left.rows + left.engine,
      ...none,
    }),
    ...growthRows(what, looks),
  ];
}

/** The last fifth beside the first. */
function lastFifthRow(what, times, name) {
  const [first, last] = fifthsOf(times);
  const pairs = first.map((reference, index) => ({ ours: last[index], reference }));
  return makeRow(pairs, { figure: `${what}: ${name}, last fifth, p50`, reference: 'first fifth', unit: 'ms' });
}

/** How much slower deploys got, beyond what the machine did. */
function driftRow(what, times, byHand) {
  const slowdown = (series) => {
    const [first, last] = fifthsOf(series);
    return quantileOf(last, 0.5) / quantileOf(first, 0.5);
  };
  return countRow({
    figure: `${what}: slower at the end, beside that worker`,
    unit: '×',
    ours: slowdown(times) / slowdown(byHand),
    target: `≤ ${LIMITS.drift} ×`,
    meets: ({ ours }) => ours <= LIMITS.drift,
  });
}

function fifthsOf(times) {
  const fifth = Math.max(1, Math.floor(times.length / 5));
  return [times.slice(0, fifth), times.slice(-fifth)];
}

/** From the second look on: what the first deploys need once and for all is no leak. */
function growthRows(what, looks) {
  const [first, last] = [looks[Math.min(1, looks.length - 1)], looks.at(-1)];
  if (last === undefined || last.made === first.made) return [];
  const held = (last.live - first.live) / KIB / (last.made - first.made);
  const memory = countRow({
    figure: `${what}: what the manager holds more, each`,
    unit: 'KiB',
    ours: held,
    target: `≤ ${LIMITS.kibEach} KiB`,
    meets: ({ ours }) => ours <= LIMITS.kibEach,
  });
  if (last.files === undefined) return [memory];
  const files = countRow({
    figure: `${what}: open files more`,
    unit: 'files',
    ours: last.files - first.files,
    target: `≤ ${LIMITS.files}`,
    meets: ({ ours }) => ours <= LIMITS.files,
  });
  return [memory, files];
}
