import { ECHO } from '../reference/handlers.mjs';
import { makeRow } from '../report/rows.mjs';
import { startByHand } from '../stage/by-hand.mjs';
import { untilQuiet } from '../stage/quiet.mjs';
import { inTurn } from './pairs.mjs';

const ROUNDS = { count: 20, seconds: 90 };
const POOL_SIZE = 2;
const GIVE_UP_MS = 60_000;
const MOST_MS = 60;

/** From the first byte of an upload to the answer of the first successful call, beside a worker started by hand. */
export async function measureDeploy(stage) {
  const { engine } = stage;
  const pooled = await stage.manager({ environment: { WARM_POOL_SIZE: String(POOL_SIZE) } });
  const cold = await stage.manager();
  const sides = {
    pooled: () => deploy(pooled, engine, POOL_SIZE),
    cold: () => deploy(cold, engine, POOL_SIZE),
    byHand: () => untilQuiet(engine, { generic: POOL_SIZE }).then(() => startByHand(engine, ECHO)),
  };
  for (const measure of Object.values(sides)) await measure();
  const rounds = await inTurn(stage, ROUNDS, sides);
  return { rows: rowsOf(engine.name, rounds), rounds };
}

/** Milliseconds, once the engine has come to rest: with so many workers that wait in pools. */
export async function deploy(manager, engine, generic = 0) {
  await untilQuiet(engine, { generic });
  const began = performance.now();
  const id = await manager.upload(ECHO);
  await untilCalled(manager, id, began + GIVE_UP_MS);
  const took = performance.now() - began;
  await manager.remove(id);
  return Math.round(took * 10) / 10;
}

async function untilCalled(manager, id, giveUpAt) {
  for (;;) {
    const { status, text } = await manager.call(id, 'hello');
    if (status === 200) return;
    if (performance.now() > giveUpAt) throw new Error(`The function never answered: ${status} ${text}`);
  }
}

function rowsOf(engine, rounds) {
  const what = `deploy on ${engine}: upload to first answer`;
  const pooled = rounds.map((round) => ({ ours: round.pooled, reference: round.cold }));
  const cold = rounds.map((round) => ({ ours: round.cold, reference: round.byHand }));
  const byHand = 'worker started by hand, until healthy';
  const row = (pairs, name, reference, quantile, limit) =>
    makeRow(pairs, { figure: `${what}, ${name}, p${quantile * 100}`, reference, unit: 'ms', quantile, ...limit });
  return [
    row(pooled, 'warm pool', 'no pool', 0.5, { target: `≤ ${MOST_MS} ms`, meets: ({ ours }) => ours <= MOST_MS }),
    row(pooled, 'warm pool', 'no pool', 0.95),
    row(cold, 'no pool', byHand, 0.5),
    row(cold, 'no pool', byHand, 0.95),
  ];
}
