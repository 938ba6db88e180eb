import { setTimeout as delay } from 'node:timers/promises';
import { ECHO, ECHO_CALL } from '../reference/handlers.mjs';
import { makeRow } from '../report/rows.mjs';
import { untilAsleep } from '../stage/sleep.mjs';
import { untilQuiet } from '../stage/quiet.mjs';
import { inPairs } from './pairs.mjs';

const SPAN_MS = 1_000;
const ROUNDS = { count: 8, seconds: 300 };
const SIZES = [
  { functions: 20, limits: { 0.5: 20, 0.95: 40 } },
  { functions: 60, limits: { 0.95: 1_000 } },
];
const FORMER_POOL = '2';

/** Functions that sleep, each called once within the same second: until its answer. With the settings of a new installation, and with a pool of two. */
export async function measureBurst(stage) {
  const rows = [];
  const all = {};
  for (const { functions, limits } of SIZES) {
    const sides = [await open(stage, 'auto', functions), await open(stage, FORMER_POOL, functions)];
    const pairs = await inPairs(stage, ROUNDS, ...sides.map((side) => () => burst(stage, sides, side)));
    for (const { manager, ids } of sides) {
      await Promise.all(ids.map((id) => manager.remove(id)));
      await manager.stop();
    }
    all[functions] = pairs;
    for (const [quantile, limit] of Object.entries(limits)) rows.push(rowOf(functions, pairs, Number(quantile), limit));
  }
  return { rows, pairs: all };
}

async function open(stage, pool, functions) {
  const manager = await stage.manager({ environment: { WARM_POOL_SIZE: pool } });
  const ids = [];
  while (ids.length < functions) ids.push(await manager.upload(ECHO, { max_replicas: 1 }));
  return { manager, ids };
}

/** Answers after how many milliseconds each call was answered. */
async function burst(stage, sides, { manager, ids }) {
  for (const side of sides) for (const id of side.ids) await untilAsleep(side.manager, id);
  for (const side of sides) await poolIsFull(side.manager);
  await untilQuiet(stage.engine);
  const payload = JSON.parse(ECHO_CALL.body).payload;
  return Promise.all(
    ids.map(async (id, index) => {
      await delay((index * SPAN_MS) / ids.length);
      const began = performance.now();
      const { status, text } = await manager.call(id, payload);
      if (status !== 200) throw new Error(`A call was answered ${status}: ${text}`);
      return Math.round((performance.now() - began) * 100) / 100;
    }),
  );
}

async function poolIsFull(manager) {
  const until = performance.now() + 120_000;
  for (;;) {
    const text = await (await fetch(`${manager.origin}/metrics`)).text();
    const [ready, target] = ['ready', 'target'].map((name) =>
      Number(new RegExp(`^faas_pool_${name} (\\d+)`, 'm').exec(text)?.[1]),
    );
    if (ready > 0 && ready >= target) return;
    if (performance.now() > until) throw new Error(`The pool never came to be full: ${ready} of ${target}.`);
    await delay(100);
  }
}

function rowOf(functions, pairs, quantile, limit) {
  return makeRow(pairs, {
    figure: `${functions} functions woken within a second: first answer, p${quantile * 100}`,
    reference: 'a pool of 2',
    unit: 'ms',
    quantile,
    target: `≤ ${limit} ms`,
    meets: ({ ours }) => ours <= limit,
  });
}
