import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadOf, pointOf, replicasFor, type SeenWorkload, settling, Split, type WantedTraffic } from './traffic.js';

const ID = 'mfrggzdfmztwq2lk';
const target = (revision: number, percent: number, tag?: string) => {
  return { revision, percent, workload: `workload${revision}`, ...(tag !== undefined && { tag }) };
};

describe('divided calls', () => {
  it('come as near to their shares as whole calls can, whatever the shares are', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 100 }), (percent) => {
        const split = new Split(ID, [target(1, percent), target(2, 100 - percent)]);
        let first = 0;
        for (let call = 0; call < 1_000; call += 1) if (split.choose({})?.revision === 1) first += 1;
        expect(Math.abs(first - percent * 10)).toBeLessThanOrEqual(5);
      }),
    );
  });

  it('stay with their key, by shares of all keys', () => {
    const split = () => new Split(ID, [target(1, 90), target(2, 10)]);
    const keys = Array.from({ length: 10_000 }, (_, index) => `key ${index}`);
    const [one, other] = [split(), split()];
    const chosen = keys.map((stickyKey) => one.choose({ stickyKey })?.revision);
    expect(keys.map((stickyKey) => other.choose({ stickyKey })?.revision)).toEqual(chosen);
    expect(chosen).toEqual(keys.map((key) => (pointOf(ID, key) < 0.9 ? 1 : 2)));
    expect(Math.abs(chosen.filter((revision) => revision === 1).length - 9_000)).toBeLessThan(100);
  });

  it('never go to a target without a share, unless they name it', () => {
    const split = new Split(ID, [target(1, 0, 'former'), target(2, 100), target(3, 0)]);
    for (let call = 0; call < 1_000; call += 1) expect(split.choose({})?.revision).toBe(2);
    expect(split.choose({ tag: 'former' })?.revision).toBe(1);
    expect(split.choose({ revision: 3 })?.revision).toBe(3);
    expect(split.choose({ revision: 4 })).toBeUndefined();
    expect(split.choose({ tag: 'none' })).toBeUndefined();
  });
});

describe('replicas for a share', () => {
  it('are those that its part of the load needs, at least one, at most what is allowed', () => {
    expect(replicasFor(50, loadOf([10]), null)).toBe(5);
    expect(replicasFor(1, loadOf([10]), null)).toBe(1);
    expect(replicasFor(100, loadOf([9, 1]), null)).toBe(9);
    expect(replicasFor(100, loadOf([10]), 4)).toBe(4);
    expect(replicasFor(0, loadOf([10]), null)).toBe(0);
    // Two that have one each may be as good as idle.
    expect(replicasFor(100, loadOf([1, 1]), null)).toBe(1);
  });
});

describe('wanted traffic', () => {
  const now = new Date('2026-11-23T12:00:00Z');
  const wanted = (until = '2026-11-23T12:01:00Z'): WantedTraffic => ({
    version: 2,
    targets: [
      { ...target(1, 90), replicas: 2 },
      { ...target(2, 10), replicas: 1 },
      { ...target(3, 0), replicas: 0 },
    ],
    isAuto: false,
    until,
    fault: null,
  });
  const seen = (revision: number, ready: number, changes: Partial<SeenWorkload> = {}): SeenWorkload => {
    return { id: `workload${revision}`, revision, ready, isProven: true, ...changes };
  };

  it('is served when every share has its replicas, and those without one have answered', () => {
    expect(settling(wanted(), [seen(1, 2), seen(2, 1), seen(3, 0)], now)).toBe('served');
  });

  it('waits for replicas that are missing, and for workers that have never answered, until it is late', () => {
    const missing = [seen(1, 1), seen(2, 1), seen(3, 0)];
    const unproven = [seen(1, 2), seen(2, 1), seen(3, 0, { isProven: false })];
    for (const workloads of [missing, unproven]) {
      expect(settling(wanted(), workloads, now)).toBe('waits');
      expect(settling(wanted('2026-11-23T12:00:00Z'), workloads, now)).toBe('late');
    }
  });

  it('is lost with the workers that it needs', () => {
    expect(settling(wanted(), [seen(1, 2), seen(3, 0)], now)).toBe('lost');
    const others = [seen(1, 2), seen(2, 1, { revision: 4 }), seen(3, 0)];
    expect(settling(wanted(), others, now)).toBe('lost');
  });
});
