import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Load } from './demand.repository.js';
import { desiredReplicas, scaleSteps } from './desired-replicas.js';

const LOAD: Load = {
  id: 'aaaaaaaaaaaaaaaa',
  replicas: 1,
  minReplicas: 0,
  maxReplicas: 10,
  concurrency: 10,
  memoryMiB: 512,
  callsNow: 0,
  callsLately: 0,
};
const load = (changes: Partial<Load>): Load => ({ ...LOAD, ...changes });

describe('desiredReplicas', () => {
  it.each([
    ['stays while its slots are filled as meant', { callsNow: 7, callsLately: 7 }, 1],
    ['adds one when they are fuller than that', { callsNow: 7.5, callsLately: 1 }, 2],
    ['jumps to what a burst needs', { callsNow: 49, callsLately: 2 }, 7],
    ['never passes its limit', { callsNow: 5_000 }, 10],
    ['keeps its least replicas', { replicas: 3, minReplicas: 3 }, 3],
    ['comes up to its least replicas', { replicas: 1, minReplicas: 3 }, 3],
    ['comes down to its limit', { replicas: 9, maxReplicas: 4, callsNow: 90, callsLately: 90 }, 4],
    ['never goes to none by itself', { replicas: 1 }, 1],
    ['gives a quarter of what is too many back at a time', { replicas: 9 }, 7],
    ['comes to its end', { replicas: 2 }, 1],
    ['takes nothing away soon after a burst', { replicas: 8, callsNow: 0, callsLately: 55 }, 8],
    ['comes down to what a steady load needs', { replicas: 4, callsNow: 10, callsLately: 10 }, 3],
    ['comes down to one beside a call now and then', { replicas: 2, callsNow: 0.02, callsLately: 0.1 }, 1],
    ['counts one call at a time for what it is', { concurrency: 1, callsNow: 1, callsLately: 1 }, 2],
  ] as const)('%s', (_, changes, expected) => {
    expect(desiredReplicas(load(changes))).toBe(expected);
  });

  const anyLoad = fc
    .record({
      id: fc.string({ minLength: 1 }),
      replicas: fc.integer({ min: 1, max: 60 }),
      minReplicas: fc.nat(20),
      more: fc.nat(40),
      concurrency: fc.integer({ min: 1, max: 100 }),
      memoryMiB: fc.integer({ min: 32, max: 2_048 }),
      callsNow: fc.double({ min: 0, max: 5_000, noNaN: true }),
      callsLately: fc.double({ min: 0, max: 5_000, noNaN: true }),
    })
    .map(({ more, ...rest }) => ({ ...rest, maxReplicas: Math.max(1, rest.minReplicas) + more }));

  it('stays between the limits, and never gives up a replica that the calls of now or lately need', () => {
    fc.assert(
      fc.property(anyLoad, (given) => {
        const to = desiredReplicas(given);
        expect(to).toBeGreaterThanOrEqual(Math.max(1, given.minReplicas));
        expect(to).toBeLessThanOrEqual(given.maxReplicas);
        if (to < given.replicas && given.replicas <= given.maxReplicas) {
          const slots = to * given.concurrency;
          expect(Math.max(given.callsNow, given.callsLately)).toBeLessThanOrEqual(slots);
        }
      }),
    );
  });

  it('comes to rest under a steady load, with what it needs', () => {
    fc.assert(
      fc.property(anyLoad, (given) => {
        let steady: Load = { ...given, callsLately: given.callsNow };
        const fromNone = desiredReplicas({ ...steady, replicas: 0 });
        for (let round = 0; round < 200; round += 1) {
          const to = desiredReplicas(steady);
          if (to === steady.replicas) {
            expect(to).toBe(fromNone);
            return;
          }
          steady = { ...steady, replicas: to };
        }
        throw new Error('It never comes to rest.');
      }),
    );
  });

  it('never hands out memory that is not there, and none of what a function does not want', () => {
    fc.assert(
      fc.property(fc.array(anyLoad, { maxLength: 8 }), fc.integer({ min: -5_000, max: 100_000 }), (loads, free) => {
        const steps = scaleSteps(loads, free);
        const taken = steps.reduce(
          (sum, { load: { replicas, memoryMiB }, to }) => sum + (to - replicas) * memoryMiB,
          0,
        );
        expect(taken).toBeLessThanOrEqual(Math.max(free, taken > 0 ? free : 0));
        for (const { load: one, to } of steps) {
          expect(to).not.toBe(one.replicas);
          if (to > one.replicas) expect(to).toBeLessThanOrEqual(desiredReplicas(one));
          else expect(to).toBe(desiredReplicas(one));
        }
      }),
    );
  });

  it('shares memory that is short among the functions that want it', () => {
    const burst = (id: string) => load({ id, callsNow: 70, memoryMiB: 100 });
    const steps = scaleSteps([burst('a'), burst('b')], 600);
    expect(steps.map(({ load: { id }, to }) => [id, to])).toEqual([
      ['a', 4],
      ['b', 4],
    ]);
  });
});
