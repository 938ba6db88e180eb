import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { BuildCopy } from './build-copy.js';
import type { Caller } from './caller.js';
import { Chaos } from './chaos.js';
import { answerOf, payloadOf } from './handlers.js';
import type { ManagerProcess } from './manager-process.js';
import { describePlan, type Ground, planRound } from './plan.js';
import type { CrashSite } from './site.js';
import { Stage } from './stage.js';

const DEFAULT_ROUNDS = 20;
const ROUND_TIMEOUT_MS = 150_000;
const OPEN_TIMEOUT_MS = 180_000;
const FUNCTIONS = 4;
const FEWEST_WITH_POOL = 3;

interface CrashSuite extends Ground {
  /** Of `CRASH_ROUNDS`. */
  readonly share: number;
  open(folder: string, build: BuildCopy): Promise<CrashSite>;
}

/** `CRASH_ROUNDS` says of how many rounds each engine has its share, `CRASH_SEED` which they are. */
export function describeCrashes({ engine, hasPool, share, open }: CrashSuite): void {
  const seed = process.env['CRASH_SEED'] || randomBytes(4).toString('hex');
  const rounds = Math.max(1, Math.round(Number(process.env['CRASH_ROUNDS'] || DEFAULT_ROUNDS) * share));

  const where = `crashes on the ${engine} engine ${hasPool ? 'with a pool' : 'without a pool'}`;

  describe(`${where} (seed ${seed})`, () => {
    let stage: Stage;
    let chaos: Chaos;
    let began = 0;
    let broken = false;

    beforeAll(async () => {
      process.stdout.write(`${where}: ${rounds} rounds, CRASH_SEED=${seed}\n`);
      began = performance.now();
      stage = await Stage.open(open);
      expect(stage.site.pool !== undefined).toBe(hasPool);
      chaos = new Chaos(stage, seed);
    }, OPEN_TIMEOUT_MS);

    afterAll(async () => {
      if (chaos !== undefined) process.stdout.write(`${summary(chaos, performance.now() - began)}\n`);
      await stage?.close();
    }, OPEN_TIMEOUT_MS);

    /** After one failure the state is not as the next test expects it, and its failure would tell nothing. */
    function check(title: string, work: () => Promise<void>): void {
      it(title, { timeout: ROUND_TIMEOUT_MS }, async (context) => {
        context.skip(broken, 'an earlier check failed');
        broken = true;
        await work();
        broken = false;
      });
    }

    check('serves every function through two managers with one worker each', async () => {
      const entries = await chaos.populate(FUNCTIONS);
      expect(entries).toHaveLength(FUNCTIONS);
    });

    check('keeps every worker when its managers are stopped and started again', async () => {
      const before = await chaos.settled('before SIGTERM');
      const statuses = await Promise.all(stage.managers.map((manager) => manager.terminate()));
      expect(statuses, chaos.report(new Error('A manager did not end well.')).message).toEqual([0, 0]);
      await Promise.all(stage.managers.map((manager) => manager.start()));
      expect(identities(await chaos.settled('after SIGTERM'))).toEqual(identities(before));
    });

    check('keeps every worker when its managers are killed and started again', async () => {
      const before = await chaos.settled('before SIGKILL');
      await Promise.all(stage.managers.map((manager) => manager.kill()));
      expect(identities(await stage.site.workers())).toEqual(identities(before));
      await Promise.all(stage.managers.map((manager) => manager.start()));
      expect(identities(await chaos.settled('after SIGKILL'))).toEqual(identities(before));
    });

    check('finishes calls in flight when a manager is asked to stop', async () => {
      const entries = await chaos.populate(FUNCTIONS);
      const manager = stage.managers[0] as ManagerProcess;
      const caller = stage.callers[0] as Caller;
      const known = await caller.callsKnown();
      const calls = entries.flatMap((entry) =>
        [0.6, 0.8, 1, 1.2].map(async (nap) => {
          const text = `${entry.handler.token}-drain-${nap}`;
          const reply = await caller.execute(entry.id ?? '', payloadOf(nap, text));
          return reply.kind === 'answer' && answerOf(entry.handler, text, reply.body) ? 'right' : reply;
        }),
      );
      await vi.waitFor(
        async () => expect(await caller.callsKnown()).toBeGreaterThanOrEqual(known + calls.length),
        10_000,
      );
      const status = await manager.terminate();
      const wrong = (await Promise.all(calls)).filter((outcome) => outcome !== 'right');
      expect(wrong, chaos.report(new Error('Calls in flight were hurt.')).message).toEqual([]);
      expect(status).toBe(0);
      await manager.start();
      await chaos.settled('after draining');
    });

    for (let round = 1; round <= rounds; round += 1) {
      const killed = describePlan(planRound(seed, { engine, hasPool }, round));
      check(`round ${round}: ${killed}`, () => chaos.round(round));
    }

    // Otherwise nothing was proved of pools.
    if (hasPool && rounds >= FEWEST_WITH_POOL) {
      check('gave functions workers that had waited', async () => expect(chaos.given).toBeGreaterThan(0));
    }

    check('leaves nothing behind when every function is removed', () => chaos.finish());
  });
}

function identities(workers: Awaited<ReturnType<CrashSite['workers']>>): string[] {
  return workers.map(({ functionId, replica, pid }) => `${functionId} ${replica} ${pid}`).toSorted();
}

function summary({ replies, recoveries, given }: Chaos, elapsedMs: number): string {
  const calls = [...replies].map(([outcome, count]) => `${count} ${outcome}`).join(', ');
  const lines = [...recoveries]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([victims, times]) => {
      const mean = times.reduce((sum, time) => sum + time, 0) / times.length;
      return `  ${victims}: ${times.length} rounds, well again after ${mean.toFixed(0)} ms, at worst ${Math.max(...times).toFixed(0)} ms`;
    });
  return [
    `${(elapsedMs / 1000).toFixed(0)} s; at most ${given} workers of one pool were given to functions; calls: ${calls}`,
    ...lines,
  ].join('\n');
}
