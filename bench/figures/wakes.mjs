import { ECHO, ECHO_CALL } from '../reference/handlers.mjs';
import { makeRow } from '../report/rows.mjs';
import { untilAsleep } from '../stage/sleep.mjs';
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
  const sides = [await open(stage, { environment: { WARM_POOL_SIZE: 'auto' } }), await open(stage, other)];
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

async function open(stage, { environment, root = stage.root }) {
  const manager = await stage.manager({ root, environment: { SCALE_INTERVAL_MS: '100', ...environment } });
  const ids = [];
  while (ids.length < CALLERS) ids.push(await manager.upload(ECHO, { max_replicas: 1 }));
  return { manager, ids };
}

async function sustained(stage, sides, { manager, ids }) {
  for (const side of sides) for (const id of side.ids) await untilAsleep(side.manager, id);
  await untilQuiet(stage.engine);
  const payload = JSON.parse(ECHO_CALL.body).payload;
  const seconds = Math.max(5, SECONDS * stage.share);
  const until = performance.now() + seconds * 1_000;
  let wakes = 0;
  const drive = async (id) => {
    for (;;) {
      const { status, text } = await manager.call(id, payload);
      if (performance.now() > until) return;
      if (status !== 200) throw new Error(`A call was answered ${status}: ${text}`);
      wakes += 1;
      await untilAsleep(manager, id);
    }
  };
  await Promise.all(ids.map(drive));
  return Math.round((wakes / seconds) * 100) / 100;
}
