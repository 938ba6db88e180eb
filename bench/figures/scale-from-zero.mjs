import { ECHO, ECHO_CALL } from '../reference/handlers.mjs';
import { makeRow } from '../report/rows.mjs';
import { untilQuiet } from '../stage/quiet.mjs';
import { untilAsleep } from '../stage/sleep.mjs';
import { wakeByHand } from '../stage/by-hand.mjs';
import { inTurn } from './pairs.mjs';

const POOL_SIZE = 2;
/** Wakes with a pool in each round; one without takes much longer. */
const WARM_WAKES = 4;
const ROUNDS = { count: 50, seconds: 420 };
/** What a client sees of a wake: the median, and the slow end. */
const LIMITS = { milliseconds: { 0.5: 15, 0.95: undefined, 0.99: 50 }, leastFaster: 20, mostTimesByHand: 3 };

/** A call of a function that has no replica, until its answer; with a warm pool, and without. */
export function measureScaleFromZero(stage) {
  return firstAnswers(stage, ROUNDS, LIMITS);
}

/** The same, for so many rounds and with other limits. */
export async function firstAnswers(stage, limits, { milliseconds, leastFaster, mostTimesByHand }) {
  const { engine } = stage;
  const pooled = await openSide(stage, POOL_SIZE);
  const cold = await openSide(stage, 0);
  const atRest = async () => {
    for (const side of [pooled, cold]) await untilAsleep(side.manager, side.id);
    await untilQuiet(engine, { generic: POOL_SIZE });
  };
  const wake = async ({ manager, id }) => {
    await atRest();
    const { p50 } = await stage.load().round({ target: manager.target(id), connections: 1, calls: 1, ...ECHO_CALL });
    return p50;
  };
  const severalWakes = async () => {
    const times = [];
    while (times.length < WARM_WAKES) times.push(await wake(pooled));
    return times;
  };
  for (const side of [pooled, cold]) await wake(side);
  const byHand = async () => {
    await atRest();
    return wakeByHand(engine, ECHO, ECHO_CALL);
  };
  const rounds = await inTurn(stage, limits, { ours: severalWakes, reference: () => wake(cold), byHand });
  const rows = Object.entries(milliseconds).map(([q, limit]) =>
    rowOf(engine.name, rounds, Number(q), limit, leastFaster),
  );
  return { rows: [...rows, rowByHand(engine.name, rounds, mostTimesByHand)], rounds };
}

async function openSide(stage, size) {
  const environment = { WARM_POOL_SIZE: String(size), SCALE_INTERVAL_MS: '100' };
  const manager = await stage.manager({ environment });
  const id = await manager.upload(ECHO, { max_replicas: 1 });
  return { manager, id };
}

function rowOf(engine, pairs, quantile, limit, leastFaster) {
  const isMiddle = quantile === 0.5;
  const faster = isMiddle ? `, ≥ ${leastFaster} × faster` : '';
  return makeRow(pairs, {
    figure: `scale from zero on ${engine}: first answer, p${quantile * 100}`,
    reference: 'no warm pool',
    unit: 'ms',
    quantile,
    ...(limit === undefined
      ? {}
      : {
          target: `≤ ${limit} ms${faster}`,
          meets: ({ ours, ratio }) => ours <= limit && (!isMiddle || ratio.median <= 1 / leastFaster),
        }),
  });
}

function rowByHand(engine, rounds, mostTimes) {
  const pairs = rounds.map(({ ours, byHand }) => ({ ours, reference: byHand }));
  return makeRow(pairs, {
    figure: `scale from zero on ${engine}: first answer, p50`,
    reference: 'a waiting worker given its function and called by hand',
    unit: 'ms',
    target: `≤ ${mostTimes} ×`,
    meets: ({ ratio }) => ratio.median <= mostTimes,
  });
}
