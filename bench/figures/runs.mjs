import { setTimeout as delay } from 'node:timers/promises';
import { countRow, makeRow } from '../report/rows.mjs';
import { quantileOf } from '../report/statistics.mjs';
import { untilPoolIsFull } from '../stage/quiet.mjs';
import { untilAsleep } from '../stage/sleep.mjs';
import { callSleeper, openSleepers } from '../stage/sleepers.mjs';

const RUNS = 1_000;
/** Beside so many of them a sleeping function is woken. */
const WOKEN_EVERY = 10;
/** Of the pool must be there for the next one. */
const WARM_PART = 1 / 2;
/** Faster than a pool is filled. */
const IN_A_ROW = 100;
const PAUSE_MS = 150;
const LIMITS = { p50: 25, p99: 60 };
/** Leaves whatever a run can leave, and answers what it finds of another. */
const CODE = `import builtins, os, pathlib, tempfile

MARK = pathlib.Path(tempfile.gettempdir()) / "mark"


def handle(payload):
    found = [hasattr(builtins, "mark"), MARK.exists(), "MARK" in os.environ]
    builtins.mark = True
    MARK.write_text(payload)
    os.environ["MARK"] = payload
    print(payload)
    return sum(found)
`;

/**
 * Files that are run once, with the settings of a new installation: each while the pool has workers, and then some
 * that come faster than it is filled.
 */
export async function measureRuns(stage) {
  const { manager, ids } = await openSleepers(stage, 1, { environment: { WARM_POOL_SIZE: 'auto' } });
  const count = Math.max(20, Math.round(RUNS * stage.share));
  const [times, pairs] = [[], []];
  let traces = 0;
  const one = (name) =>
    timed(async () => {
      const { result, logs } = await run(manager, name);
      traces += result;
      if (logs.length !== 1 || logs[0].line !== name) throw new Error(`Its log was ${JSON.stringify(logs)}.`);
    });
  for (let made = 0; made < count; made += 1) {
    await untilPoolIsFull(manager, WARM_PART);
    const ours = await one(String(made));
    times.push(ours);
    if (made % WOKEN_EVERY > 0) continue;
    await untilAsleep(manager, ids[0]);
    await untilPoolIsFull(manager, WARM_PART);
    pairs.push({ ours, reference: await timed(() => callSleeper(manager, ids[0])) });
  }
  const inARow = [];
  for (let made = 0; made < Math.max(10, IN_A_ROW * stage.share); made += 1) {
    inARow.push(await one(`row ${made}`));
    await delay(PAUSE_MS);
  }
  return { rows: rowsOf(times, pairs, traces, inARow), times, traces, inARow };
}

async function run(manager, payload) {
  const answer = await fetch(`${manager.origin}/runs`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ code: CODE, function_name: 'handle', payload }),
  });
  const text = await answer.text();
  if (answer.status !== 200) throw new Error(`A run was answered ${answer.status}: ${text}`);
  return JSON.parse(text);
}

async function timed(work) {
  const began = performance.now();
  await work();
  return Math.round((performance.now() - began) * 100) / 100;
}

function rowsOf(times, pairs, traces, inARow) {
  const what = `${times.length} files run once, each by a warm pool`;
  return [
    makeRow(pairs, {
      figure: `${what}: p50`,
      reference: 'a wake of another function',
      unit: 'ms',
      target: `≤ ${LIMITS.p50} ms`,
      meets: ({ ours }) => ours <= LIMITS.p50,
    }),
    countRow({
      figure: `${what}: p99`,
      unit: 'ms',
      ours: quantileOf(times, 0.99),
      target: `≤ ${LIMITS.p99} ms`,
      meets: ({ ours }) => ours <= LIMITS.p99,
    }),
    countRow({
      figure: `${what}: traces of another one`,
      unit: 'things',
      ours: traces,
      target: 'none',
      meets: ({ ours }) => ours === 0,
    }),
    countRow({
      figure: `${inARow.length} files run once, ${PAUSE_MS} ms after one another: p50`,
      unit: 'ms',
      ours: quantileOf(inARow, 0.5),
    }),
  ];
}
