import { setTimeout as delay } from 'node:timers/promises';
import { countRow, makeRow } from '../report/rows.mjs';
import { quantileOf } from '../report/statistics.mjs';
import { untilAsleep } from '../stage/sleep.mjs';
import { callSleeper, openSleepers } from '../stage/sleepers.mjs';
import { untilPoolIsFull, untilQuiet } from '../stage/quiet.mjs';
import { inTurn } from './pairs.mjs';

const SPAN_MS = 1_000;
const FEW = { functions: 20, count: 8, seconds: 300, limits: { 0.5: 20, 0.95: 40 } };
/** With a pool of two they would all start cold, for a minute. */
const MANY = { functions: 60, count: 5, seconds: 200, limits: { 0.95: 1_000 } };
const FORMER_POOL = '2';

/**
 * Functions that sleep, each called once within the same second: until its answer. With the settings of a new
 * installation, and where there are few, with a pool of two.
 */
export async function measureBurst(stage) {
  const [few, many] = [await bursts(stage, FEW, ['auto', FORMER_POOL]), await bursts(stage, MANY, ['auto'])];
  const rows = [
    ...rowsOf(FEW, (limit, quantile) => makeRow(few, { ...limit, quantile, reference: 'a pool of 2' })),
    ...rowsOf(MANY, (limit, quantile) =>
      countRow({
        ...limit,
        ours: quantileOf(
          many.flatMap(({ ours }) => ours),
          quantile,
        ),
      }),
    ),
  ];
  return { rows, pairs: { [FEW.functions]: few, [MANY.functions]: many } };
}

async function bursts(stage, { functions, ...limits }, pools) {
  const sides = [];
  for (const pool of pools) sides.push(await openSleepers(stage, functions, { environment: { WARM_POOL_SIZE: pool } }));
  // The first of a manager pays for code that has never run.
  for (const side of sides) await burst(stage, sides, side);
  const [ours, reference] = sides.map((side) => () => burst(stage, sides, side));
  const rounds = await inTurn(stage, limits, { ours, ...(reference && { reference }) });
  for (const { manager, ids } of sides) {
    await Promise.all(ids.map((id) => manager.remove(id)));
    await manager.stop();
  }
  return rounds;
}

function rowsOf({ functions, limits }, row) {
  return Object.entries(limits).map(([quantile, most]) => {
    const figure = `${functions} functions woken within a second: first answer, p${quantile * 100}`;
    return row({ figure, unit: 'ms', target: `≤ ${most} ms`, meets: ({ ours }) => ours <= most }, Number(quantile));
  });
}

/** Answers after how many milliseconds each call was answered. */
async function burst(stage, sides, { manager, ids }) {
  for (const side of sides) for (const id of side.ids) await untilAsleep(side.manager, id);
  for (const side of sides) await untilPoolIsFull(side.manager);
  await untilQuiet(stage.engine);
  return Promise.all(
    ids.map(async (id, index) => {
      await delay((index * SPAN_MS) / ids.length);
      const began = performance.now();
      await callSleeper(manager, id);
      return Math.round((performance.now() - began) * 100) / 100;
    }),
  );
}
