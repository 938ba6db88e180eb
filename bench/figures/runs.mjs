import { setTimeout as delay } from 'node:timers/promises';
import { countRow, makeRow } from '../report/rows.mjs';
import { quantileOf } from '../report/statistics.mjs';
import { untilAsleep } from '../stage/sleep.mjs';
import { callSleeper, openSleepers } from '../stage/sleepers.mjs';

const RUNS = 1_000;
/** Beside so many of them a sleeping function is woken. */
const WOKEN_EVERY = 10;
/** A pool must be filled as fast as it is used. */
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

/** Files that are run once, one after the other, with the settings of a new installation. */
export async function measureRuns(stage) {
  const { manager, ids } = await openSleepers(stage, 1, { environment: { WARM_POOL_SIZE: 'auto' } });
  const count = Math.max(20, Math.round(RUNS * stage.share));
  const [times, pairs] = [[], []];
  let traces = 0;
  for (let made = 0; made < count; made += 1) {
    const ours = await timed(async () => {
      const { result, logs } = await run(manager, String(made));
      traces += result;
      if (logs.length !== 1 || logs[0].line !== String(made)) throw new Error(`Its log was ${JSON.stringify(logs)}.`);
    });
    times.push(ours);
    await delay(PAUSE_MS);
    if (made % WOKEN_EVERY > 0) continue;
    await untilAsleep(manager, ids[0]);
    pairs.push({ ours, reference: await timed(() => callSleeper(manager, ids[0])) });
  }
  return { rows: rowsOf(times, pairs, traces), times, traces };
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

function rowsOf(times, pairs, traces) {
  const what = `${times.length} files run once`;
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
  ];
}
