import { describe, expect, it } from 'vitest';
import type { WorkloadFault } from './workload.js';
import { observedOf, planFor, type Standing, withheldOf } from './replica-plan.js';

const standing = (replica: string, hash: string, ready: boolean): Standing => ({
  replica,
  hash,
  ready,
  address: { kind: 'unix', path: `/run/${replica}` },
});
const ids = (seen: { endpoints: readonly { replica: string }[] }) => seen.endpoints.map(({ replica }) => replica);

const fault = (terminal: boolean): WorkloadFault => ({
  code: terminal ? 'handler_not_loadable' : 'worker_crashed',
  message: '',
  terminal,
  at: new Date(0),
});

describe('planFor', () => {
  it('starts what is missing', () => {
    expect(planFor([standing('a', 'new', true)], 'new', 3, 0)).toEqual({ start: 2, drain: [] });
  });

  it('keeps the former spec until the wanted replicas of the new one are ready', () => {
    const replicas = [standing('old', 'old', true), standing('a', 'new', true), standing('b', 'new', false)];
    expect(planFor(replicas, 'new', 2, 0)).toEqual({ start: 0, drain: [] });
    expect(planFor([...replicas.slice(0, 2), standing('b', 'new', true)], 'new', 2, 0).drain).toEqual(['old']);
  });

  it('lets go of replicas that are not ready first', () => {
    const replicas = [standing('a', 'new', false), standing('b', 'new', true), standing('c', 'new', true)];
    expect(planFor(replicas, 'new', 2, 0).drain).toEqual(['a']);
  });

  it('lets everything go when none is wanted', () => {
    const replicas = [standing('old', 'old', true), standing('a', 'new', false)];
    expect(planFor(replicas, 'new', 0, 0)).toEqual({ start: 0, drain: ['a', 'old'] });
  });

  it('starts nothing that is withheld', () => {
    expect(planFor([], 'new', 2, Infinity).start).toBe(0);
    expect(planFor([], 'new', 2, 1).start).toBe(1);
  });
});

describe('observedOf', () => {
  it('adds the former endpoints while too few of the wanted spec are ready', () => {
    const replicas = [standing('old', 'old', true), standing('a', 'new', true), standing('b', 'new', false)];
    const seen = observedOf(replicas, 'new', 2, 'name', undefined);
    expect(ids(seen)).toEqual(['a', 'old']);
    expect(seen).toMatchObject({ replicas: 2, ready: 1, primary: 'name', reason: { code: 'starting' } });
  });

  it('is silent about a workload that is as wanted', () => {
    expect(observedOf([], 'new', 0, 'name', undefined)).toEqual({
      replicas: 0,
      ready: 0,
      endpoints: [],
      primary: '',
      hostPort: 0,
    });
  });
});

describe('withheldOf', () => {
  const now = new Date(1_000);
  const until = (ms: number) => ({ replaceEndedFrom: new Date(ms) });

  it('withholds every replica of a handler that cannot be loaded, and those that ended while backing off', () => {
    expect(withheldOf(undefined, until(2_000), now)).toBe(0);
    expect(withheldOf({ reason: fault(true), owed: 1 }, {}, now)).toBe(Infinity);
    expect(withheldOf({ reason: fault(false), owed: 2 }, until(2_000), now)).toBe(2);
    expect(withheldOf({ reason: fault(false), owed: 2 }, until(1_000), now)).toBe(0);
    expect(withheldOf({ reason: fault(false), owed: 2 }, {}, now)).toBe(0);
    expect(withheldOf(undefined, { startsNone: true }, now)).toBe(Infinity);
  });
});
