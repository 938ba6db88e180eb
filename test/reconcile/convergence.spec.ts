import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createSharedDatabase } from '../support/postgres.js';
import { Installation, type RunningManager } from './installation.js';

type Act =
  | { readonly does: 'add'; readonly replicas: number }
  | { readonly does: 'remove' | 'killReplica' | 'crash' | 'stop'; readonly which: number }
  | { readonly does: 'mortal'; readonly which: number; readonly moments: number }
  | { readonly does: 'failEnsure' | 'failRemove' | 'goDown' | 'comeBack' | 'start' }
  | { readonly does: 'pass'; readonly ms: number };

const act: fc.Arbitrary<Act> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ does: fc.constant('add'), replicas: fc.integer({ min: 1, max: 3 }) }) },
  {
    weight: 5,
    arbitrary: fc.record({ does: fc.constantFrom('remove', 'killReplica', 'crash', 'stop'), which: fc.nat(9) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ does: fc.constant('mortal'), which: fc.nat(9), moments: fc.nat(12) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ does: fc.constantFrom('failEnsure', 'failRemove', 'goDown', 'comeBack', 'start') }),
  },
  { weight: 4, arbitrary: fc.record({ does: fc.constant('pass'), ms: fc.integer({ min: 1, max: 25 }) }) },
);
const story = fc.array(act, { minLength: 8, maxLength: 30, size: 'max' });

let here: Installation;

beforeAll(async () => {
  here = await Installation.open(await createSharedDatabase());
});
afterAll(() => here.close());
afterEach(() => here.reset());

describe('Reconciling', () => {
  it('converges after a manager was killed between any two of its calls', async () => {
    for (let moments = 0; moments <= 16; moments += 1) {
      const kept = await here.add({ replicas: 2 });
      const removed = await here.add();
      await here.repository.markDeleted(removed);
      const first = here.start({ concurrency: 1, leaseMs: 1_000 });
      first.life.endAfter(moments);
      await delay(30);
      await first.crash();
      // Its lease would end in a second; the test needn't wait for it.
      await here.database.query(`UPDATE functions SET lease_until = now() - interval '1 second'`);
      here.start({ orphanSweepMs: 100 });
      await here.ready(kept);
      await here.gone(removed);
      expect(here.world.started, `killed after ${moments} moments`).toBe(2);
      await here.reset();
    }
  });

  it('converges after any failures, outages, crashes and restarts in any order', async () => {
    const property = fc.asyncProperty(story, async (acts) => {
      await here.reset();
      await live(acts);
    });
    await fc.assert(property, { numRuns: 12, endOnFailure: true });
  });
});

/** Lives through one story, then lets everything heal and checks what is left. */
async function live(acts: readonly Act[]): Promise<void> {
  const config = { leaseMs: 1_000, orphanSweepMs: 50, pollMs: 50 };
  const wanted = new Map<string, boolean>();
  const managers: RunningManager[] = [here.start(config)];
  for (const next of acts) await make(next);
  here.world.comeBack();
  const survivor = here.start(config);
  const hurrying = setInterval(() => void hurry(), 100);
  try {
    for (const [id, live] of wanted) await (live ? here.ready(id, 15_000) : here.gone(id, 15_000));
  } finally {
    clearInterval(hurrying);
  }
  const live = [...wanted].filter(([, is]) => is).map(([id]) => id);
  const onEngine = () => here.engine().list(AbortSignal.timeout(1_000));
  await expect.poll(async () => (await onEngine()).toSorted(), { timeout: 15_000 }).toEqual(live.toSorted());
  expect((await here.repository.list()).map(({ id }) => id).toSorted()).toEqual(live.toSorted());
  await survivor.stop();

  async function make(next: Act): Promise<void> {
    switch (next.does) {
      case 'add':
        wanted.set(await here.add({ replicas: next.replicas }), true);
        return;
      case 'remove': {
        const id = at([...wanted.keys()], next.which);
        if (id === undefined) return;
        wanted.set(id, false);
        await here.repository.markDeleted(id);
        return;
      }
      case 'killReplica':
        return here.world.killReplica(at(here.world.replicas(), next.which)?.id ?? '');
      case 'crash':
        return at(managers, next.which)?.crash();
      case 'stop':
        // A manager that has died never stops; it is given up when everything is.
        at(managers, next.which)
          ?.stop()
          .catch(() => undefined);
        return;
      case 'mortal':
        return at(managers, next.which)?.life.endAfter(next.moments);
      case 'failEnsure':
        return here.world.failNext('ensure', new Error('a fault nobody foresaw'));
      case 'failRemove':
        return here.world.failNext('remove');
      case 'goDown':
        return here.world.goDown();
      case 'comeBack':
        return here.world.comeBack();
      case 'start':
        if (managers.length < 5) managers.push(here.start(config));
        return;
      case 'pass':
        await delay(next.ms);
    }
  }
}

/** Backoff is over and the leases of the dead have ended: the test needn't wait for either. */
async function hurry(): Promise<void> {
  await here.letTimePass();
  await here.database.query(`UPDATE functions SET lease_until = NULL WHERE lease_until < now() + interval '700 ms'`);
}

function at<T>(from: readonly T[], which: number): T | undefined {
  return from[which % Math.max(1, from.length)];
}
