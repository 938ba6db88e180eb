import { ECHO_CALL, SLEEP } from '../reference/handlers.mjs';
import { countRow, makeRow, pick } from '../report/rows.mjs';
import { quantileOf } from '../report/statistics.mjs';
import { inPairs } from './pairs.mjs';

const CALLERS = 500;
const CAPACITY = 50;
const PAIRS = { count: 12, seconds: 45 };
const USUAL_CALLS = 20;
/** A call after the storm is as usual when it takes no longer than the usual one by this factor. */
const AS_USUAL = 1.25;
const GIVE_UP_MS = 20_000;
const MOST_RECOVERY_MS = 1_000;

/** Far more callers at once than a function has slots, through the manager and through a proxy that lets all wait. */
export async function measureStorm(stage) {
  const manager = await stage.manager();
  const id = await manager.upload(SLEEP, { concurrency: CAPACITY, max_replicas: 1 });
  const through = manager.target(id);
  const { target: beside } = await stage.proxy(await manager.workerTarget(id), CAPACITY);
  const load = stage.load();
  const usual = new Map();
  for (const target of [through, beside]) {
    usual.set(target, await load.round({ target, connections: 1, calls: USUAL_CALLS, ...ECHO_CALL }));
    await load.round({ target, connections: CALLERS, calls: CALLERS, tolerant: true, ...ECHO_CALL });
  }
  const storm = async (target) => {
    const seen = await load.round({ target, connections: CALLERS, calls: CALLERS, tolerant: true, ...ECHO_CALL });
    return { ...seen, recoveryMs: await recovery(load, target, usual.get(target).p50 * AS_USUAL) };
  };
  const pairs = await inPairs(
    stage,
    PAIRS,
    () => storm(through),
    () => storm(beside),
  );
  return { rows: rowsOf(pairs), pairs };
}

/** From the last answer of the storm to the end of the first call that was answered as fast as usual. */
async function recovery(load, target, asUsualMs) {
  const began = performance.now();
  for (;;) {
    const { kinds } = await load.round({ target, connections: 1, calls: 1, tolerant: true, ...ECHO_CALL });
    const took = performance.now() - began;
    if (kinds[200]?.p50 <= asUsualMs) return Math.round(took);
    if (took > GIVE_UP_MS) throw new Error(`No call was answered as usual for ${GIVE_UP_MS / 1000} s.`);
  }
}

function rowsOf(pairs) {
  const what = `storm of ${CALLERS} on ${CAPACITY} slots`;
  const reference = 'bare proxy, all wait';
  const answered = pairs.filter(({ ours }) => ours.kinds[200] !== undefined);
  const latency = (q) =>
    makeRow(answered.map(pick(({ kinds }) => kinds[200][q])), { figure: `${what}: 200, ${q}`, reference, unit: 'ms' });
  const recovered = makeRow(pairs.map(pick(({ recoveryMs }) => recoveryMs)), {
    figure: `${what}: from its end to a call as usual (100 ms)`,
    reference,
    unit: 'ms',
    target: `< ${MOST_RECOVERY_MS} ms`,
    meets: ({ ours }) => ours < MOST_RECOVERY_MS,
  });
  return [...statusRows(what, pairs), latency('p50'), latency('p99'), ...refusalRows(what, pairs), recovered];
}

/** How many answers there were of each kind, and that there were no others. */
function statusRows(what, pairs) {
  const count = (kind) => pairs.map(({ ours }) => ours.kinds[kind]?.calls ?? 0);
  const strange = pairs.flatMap(({ ours }) => Object.keys(ours.kinds)).filter((kind) => !['200', '429'].includes(kind));
  return [
    countRow({ figure: `${what}: answered 200`, unit: 'calls', ours: quantileOf(count(200), 0.5) }),
    countRow({ figure: `${what}: answered 429`, unit: 'calls', ours: quantileOf(count(429), 0.5) }),
    countRow({
      figure: `${what}: other answers${strange.length > 0 ? ` (${[...new Set(strange)].join(', ')})` : ''}`,
      unit: 'kinds',
      ours: new Set(strange).size,
      target: 'none',
      meets: ({ ours }) => ours === 0,
    }),
  ];
}

function refusalRows(what, pairs) {
  const refusals = pairs.flatMap(({ ours }) => ours.kinds[429] ?? []);
  if (refusals.length === 0) return [];
  return ['p50', 'p99'].map((q) =>
    countRow({
      figure: `${what}: 429, ${q}`,
      unit: 'ms',
      ours: quantileOf(
        refusals.map((refusal) => refusal[q]),
        0.5,
      ),
    }),
  );
}
