import { randomInt } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeOnProcesses } from '../support/engines.js';
import { Stage } from '../support/stage.js';
import { ACT, populated } from './support/acts.js';
import { World } from './support/world.js';

/** `MODEL_SECONDS` says for how long, `MODEL_SEED` which acts; a failure names both, and the `MODEL_PATH` to it alone. */
const SECONDS = Number(process.env['MODEL_SECONDS'] || 30);
const SEED = Number(process.env['MODEL_SEED'] || randomInt(2 ** 31));
const PATH = process.env['MODEL_PATH'];
const LENGTH = { minLength: 20, maxLength: 40 };
/** More than there is time for. */
const RUNS = 40 * SECONDS;

describeOnProcesses('calls, whatever else is done to their functions', (engine) => {
  const stage = Stage.on(engine, { WARM_POOL_SIZE: '2', SCALE_INTERVAL_MS: '100' });
  let witness: string;
  let world: World;

  beforeAll(async () => {
    const other = await stage.start({ WARM_POOL_SIZE: '2', SCALE_INTERVAL_MS: '100' });
    witness = await mkdtemp(join(tmpdir(), 'faas-witness-'));
    // Each worker has a user of its own.
    await chmod(witness, 0o777);
    world = new World([stage.manager, other], stage.room.env['PROCESS_RUNTIME_DIR'] ?? '', witness);
  });
  afterAll(() => rm(witness, { recursive: true, force: true }));

  it(
    `are each answered in time, once, and by the code that they are for (MODEL_SEED=${SEED})`,
    async () => {
      const deadline = performance.now() + SECONDS * 1_000;
      let runs = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(ACT, LENGTH), async (acts) => {
          if (performance.now() > deadline) return;
          runs += 1;
          await world.lives(() => fc.asyncModelRun(() => populated(world), acts));
        }),
        // A failure that is shrunk would be another one: the moments are never the same again.
        { seed: SEED, ...(PATH === undefined ? {} : { path: PATH }), numRuns: RUNS, endOnFailure: true },
      );
      const outcomes = [...world.outcomes].map(([outcome, count]) => `${count} ${outcome}`).join(', ');
      process.stdout.write(`${runs} runs of random acts (MODEL_SEED=${SEED}); calls: ${outcomes}\n`);
      expect(world.outcomes.get('200')).toBeGreaterThan(SECONDS);
    },
    SECONDS * 1_000 + 120_000,
  );
});
