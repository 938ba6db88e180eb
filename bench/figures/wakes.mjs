import { makeRow } from '../report/rows.mjs';
import { untilAsleep } from '../stage/sleep.mjs';
import { callSleeper, openSleepers } from '../stage/sleepers.mjs';
import { untilQuiet } from '../stage/quiet.mjs';
import { inPairs } from './pairs.mjs';

const ROUNDS = { count: 3, seconds: 300 };
const SECONDS = 30;
/** Functions that are called, put to sleep and called again, each by a caller of its own. */
const CALLERS = 8;
const POOL = '2';
const LEAST_RATIO = 1.5;

/**
 * Wakes per second that a machine sustains, each with the removal of its worker: with the settings of a new
 * installation, and with a pool of two, or as another checkout that is named by `--former` does it by default.
 */
export async function measureWakes(stage) {
  const { former, 'former-image': image } = stage.options;
  const other =
    former === ''
      ? { environment: { WARM_POOL_SIZE: POOL } }
      : { root: former, environment: { WARM_POOL_SIZE: POOL, ...(image === '' ? {} : { WORKER_IMAGE: image }) } };
  const open = ({ environment, ...rest }) =>
    openSleepers(stage, CALLERS, { environment: { SCALE_INTERVAL_MS: '100', ...environment }, ...rest });
  const sides = [await open({ environment: { WARM_POOL_SIZE: 'auto' } }), await open(other)];
  const pairs = await inPairs(stage, ROUNDS, ...sides.map((side) => () => sustained(stage, sides, side)));
  const rows = [
    makeRow(pairs, {
      figure: `wakes per second for ${SECONDS} s, with removal`,
      reference: former === '' ? 'a pool of 2' : 'the former revision',
      unit: '/s',
      target: `≥ ${LEAST_RATIO} ×`,
      meets: ({ ratio }) => ratio.median >= LEAST_RATIO,
    }),
  ];
  return { rows, pairs };
}

async function sustained(stage, sides, { manager, ids }) {
  for (const side of sides) for (const id of side.ids) await untilAsleep(side.manager, id);
  await untilQuiet(stage.engine);
  const seconds = Math.max(5, SECONDS * stage.share);
  const until = performance.now() + seconds * 1_000;
  let wakes = 0;
  const drive = async (id) => {
    for (;;) {
      await callSleeper(manager, id);
      if (performance.now() > until) return;
      wakes += 1;
      await untilAsleep(manager, id);
    }
  };
  await Promise.all(ids.map(drive));
  return Math.round((wakes / seconds) * 100) / 100;
}
