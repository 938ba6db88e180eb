import { setTimeout as delay } from 'node:timers/promises';
import { ECHO, ECHO_CALL, UNEVEN } from '../reference/handlers.mjs';
import { countRow, makeRow, pick } from '../report/rows.mjs';
import { quantileOf } from '../report/statistics.mjs';
import { inPairs } from './pairs.mjs';

const PAIRS = { count: 16, seconds: 60 };
/** Callers of the quiet function: each waits a little after an answer, as callers do. */
const QUIET = { connections: 4, pauseMs: 5, calls: 600 };
/** Eight times as many callers as the flooded function has slots; each tries again soon after any answer. */
const CAPACITY = 50;
const FLOOD = { connections: 8 * CAPACITY, pauseMs: 50, seconds: 30, tolerant: true };
const FLOODED_WITHIN_MS = 10_000;
const MOST_RATIO = 2;

/** Calls of one function while another one has far more callers than it can take, and while it has none. */
export async function measureNeighbour(stage) {
  const manager = await stage.manager();
  const quiet = await manager.upload(ECHO, { max_replicas: 1 });
  const noisy = await manager.upload(UNEVEN, { concurrency: CAPACITY, max_replicas: 1 });
  const callQuiet = () => stage.load().round({ target: manager.target(quiet), ...QUIET, ...ECHO_CALL });
  const beside = async () => {
    const flooding = stage.load('flood');
    const flood = flooding.round({ target: manager.target(noisy), ...FLOOD, ...ECHO_CALL });
    try {
      await Promise.race([untilRefused(manager, noisy), flood]);
      return await callQuiet();
    } finally {
      flooding.stop();
      floods.push(await flood);
    }
  };
  const floods = [];
  await callQuiet();
  const pairs = await inPairs(stage, PAIRS, beside, callQuiet);
  return { rows: [...rowsOf(pairs), floodRow(floods)], pairs, floods };
}

async function untilRefused(manager, id) {
  const until = performance.now() + FLOODED_WITHIN_MS;
  while ((await manager.call(id, 'hello')).status !== 429) {
    if (performance.now() > until) throw new Error('The function took every call: it is not flooded.');
    await delay(5);
  }
}

function rowsOf(pairs) {
  return ['p50', 'p99'].map((q) =>
    makeRow(pairs.map(pick((round) => round[q])), {
      figure: `quiet function beside a flooded one, ${q}`,
      reference: 'alone',
      unit: 'ms',
      ...(q === 'p99' ? { target: `≤ ${MOST_RATIO} ×`, meets: ({ ratio }) => ratio.median <= MOST_RATIO } : {}),
    }),
  );
}

function floodRow(floods) {
  const refused = floods.map(({ kinds }) => kinds[429]?.perSecond ?? 0);
  return countRow({ figure: 'refused calls of the flood', unit: 'calls/s', ours: quantileOf(refused, 0.5) });
}
