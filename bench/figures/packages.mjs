import { rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { countRow, makeRow } from '../report/rows.mjs';
import { makeWheels } from '../stage/wheels.mjs';
import { untilQuiet } from '../stage/quiet.mjs';
import { inTurn } from './pairs.mjs';

const POOL_SIZE = 2;
const CACHED = { count: 20, seconds: 60 };
const UNCACHED = { count: 10, seconds: 200 };
const LIMITS = { cached: 1.3, uncached: 2 };
const MIB = 1024 * 1024;
const LARGE_MIB = 100;
const REPLICA_MS = 30_000;
/** What the index is asked for; and before it, what none of these needs. */
const [WANTED, OTHER] = ['requests', 'six'];

/**
 * What packages cost an upload: with a layer that is there, beside the same file without one; with packages that nothing
 * of this installation has seen, beside uv by hand; and what a second replica takes of the disk.
 */
export async function measurePackages(stage) {
  const wheels = await makeWheels(stage, { smallpkg: 0, largepkg: LARGE_MIB * MIB });
  try {
    const rounds = {
      cached: await stage.part((part) => cachedRounds(part, wheels)),
      ...(await uncachedRounds(stage)),
    };
    const replica = await stage.part((part) => secondReplica(part, wheels));
    return { rows: rowsOf(stage.engine, rounds, replica), rounds, replica };
  } finally {
    await rm(wheels, { recursive: true, force: true });
  }
}

/** From the upload to the first answer, and how long the import took of it. */
async function cachedRounds(stage, wheels) {
  const environment = { WARM_POOL_SIZE: String(POOL_SIZE), PYTHON_WHEELS_DIR: wheels };
  const manager = await stage.manager({ environment });
  const upload = async (fields) => {
    await untilQuiet(stage.engine, { generic: POOL_SIZE });
    const { id, took, result } = await uploaded(manager, timing(fields.requirements), fields);
    await manager.remove(id);
    return { took, imported: result };
  };
  const sides = { with: () => upload({ requirements: 'smallpkg' }), without: () => upload({}) };
  for (const measure of Object.values(sides)) await measure();
  return inTurn(stage, CACHED, sides);
}

/** Each on an installation of its own: its first build, and the next one, which finds a builder that waits. */
async function uncachedRounds(stage) {
  const { engine } = stage;
  const index = engine.indexEnvironment();
  const reason = await engine.installByHand(OTHER).then(
    () => undefined,
    ({ message }) => message,
  );
  if (reason !== undefined) {
    console.log(`• Uncached packages are not measured, since uv can't install any by hand: ${reason}`);
    return {};
  }
  const build = () =>
    stage.part(async (part) => {
      const manager = await part.manager({ environment: { WARM_POOL_SIZE: String(POOL_SIZE), ...index } });
      const { took: first } = await uploaded(manager, timing(OTHER), { requirements: OTHER });
      await untilQuiet(engine, { generic: POOL_SIZE, others: 1 });
      await engine.untilBuilderWaits(manager.owner);
      const { took } = await uploaded(manager, timing(WANTED), { requirements: WANTED });
      return { first, took };
    });
  const byHand = async () => ({
    first: await engine.installByHand(OTHER),
    took: await engine.installByHand(WANTED),
  });
  return { uncached: await inTurn(stage, UNCACHED, { build, byHand }) };
}

/** Undefined where the engine keeps no count of what replicas take of the disk. */
async function secondReplica(stage, wheels) {
  const { engine } = stage;
  if (engine.layersUse === undefined) return undefined;
  const environment = { PYTHON_WHEELS_DIR: wheels, SCALE_INTERVAL_MS: '100' };
  const manager = await stage.manager({ environment });
  const fields = { requirements: 'largepkg', concurrency: 1, min_replicas: 1, max_replicas: 2 };
  const { id } = await uploaded(manager, slow('largepkg'), fields);
  const one = await engine.layersUse(id, manager.owner);
  const calls = Array.from({ length: 4 }, () => manager.call(id, ''));
  const until = performance.now() + REPLICA_MS;
  while ((await manager.detail(id)).ready_replicas < 2) {
    if (performance.now() > until) throw new Error('There is no second replica.');
    await delay(100);
  }
  await Promise.all(calls);
  const two = await engine.layersUse(id, manager.owner);
  return { one, two };
}

async function uploaded(manager, code, fields) {
  const began = performance.now();
  const id = await manager.upload({ code, handler: 'handle' }, fields);
  const { status, text } = await manager.call(id, '');
  const took = Math.round((performance.now() - began) * 100) / 100;
  if (status !== 200) throw new Error(`The first call was answered ${status}: ${text}`);
  return { id, took, result: JSON.parse(text).result };
}

/** Answers how many milliseconds its import took. */
function timing(name) {
  const line = name === undefined ? '' : `import ${name}\n`;
  return `import time\nbegan = time.perf_counter()\n${line}took = (time.perf_counter() - began) * 1000\ndef handle(payload):\n    return took\n`;
}

function slow(name) {
  return `import time\nimport ${name}\ndef handle(payload):\n    time.sleep(1)\n    return 0\n`;
}

function rowsOf({ name }, { cached, uncached = [] }, replica) {
  const withImport = cached.map((round) => ({
    ours: round.with.took - round.with.imported,
    reference: round.without.took,
  }));
  const uncachedRow = (which) =>
    uncached.map(({ build, byHand }) => ({ ours: build[which], reference: byHand[which] }));
  const atMost = (most) => ({ target: `≤ ${most} ×`, meets: ({ ratio }) => ratio.median <= most });
  return [
    makeRow(withImport, {
      figure: `packages on ${name}: upload with a layer that is there, to first answer but for the import, p50`,
      reference: 'the same without packages',
      unit: 'ms',
      difference: true,
      ...atMost(LIMITS.cached),
    }),
    ...(uncached.length === 0
      ? []
      : [
          makeRow(uncachedRow('first'), {
            figure: `packages on ${name}: first upload of a manager with any, uncached ${OTHER}, to first answer, p50`,
            reference: 'uv pip install by hand, cache as cold',
            unit: 'ms',
          }),
          makeRow(uncachedRow('took'), {
            figure: `packages on ${name}: upload with uncached ${WANTED}, to first answer, p50`,
            reference: 'uv pip install by hand, cache as cold',
            unit: 'ms',
            ...atMost(LIMITS.uncached),
          }),
        ]),
    ...(replica === undefined ? [] : replicaRows(replica)),
  ];
}

function replicaRows({ one, two }) {
  const none = { target: '0', meets: ({ ours }) => ours === 0 };
  const what = `second replica with a layer of ${LARGE_MIB} MiB`;
  const [first, second] = two.replicas;
  const isOne = first.file === second.file && first.source === second.source;
  return [
    countRow({
      figure: `${what}: more in the folder of layers`,
      unit: 'bytes',
      ours: two.layers - one.layers,
      ...none,
    }),
    countRow({
      figure: `${what}: written into its own file system`,
      unit: 'bytes',
      ours: Math.max(...two.replicas.map(({ written }) => written)),
      ...none,
    }),
    countRow({ figure: `${what}: files that aren't the first one's`, unit: 'files', ours: isOne ? 0 : 1, ...none }),
  ];
}
