import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { replicasToSet } from './scale.js';

const deployment = (replicas?: number) => ({ spec: { replicas } as never });
const wish = (wanted: number, autoscaled = false, hopeless = false) => ({ wanted, autoscaled, hopeless });

describe('replicasToSet', () => {
  it.each([
    ['leaves a right count alone', 2, wish(2), undefined],
    ['raises a fixed count', 1, wish(3), 3],
    ['lowers a fixed count', 3, wish(1), 1],
    ['takes an unset count for the one that Kubernetes makes of it', undefined, wish(1), undefined],
    ['leaves what the autoscaler chose above the wanted', 7, wish(1, true), undefined],
    ['raises what the autoscaler has below the wanted', 1, wish(3, true), 3],
    ['wakes what the autoscaler leaves at none', 0, wish(1, true), 1],
    ['takes all away from a function that wants none', 7, wish(0, true), 0],
    ['takes all away from code that can’t be loaded', 1, wish(1, true, true), 0],
    ['has nothing left to take', 0, wish(0, true), undefined],
    ['doesn’t wake code that can’t be loaded', 0, wish(2, false, true), undefined],
  ])('%s', (_what, current, wanted, set) => expect(replicasToSet(deployment(current), wanted)).toBe(set));

  it('comes to rest after one change, whatever is wanted', () => {
    const wishes = fc.record({ wanted: fc.nat(50), autoscaled: fc.boolean(), hopeless: fc.boolean() });
    fc.assert(
      fc.property(fc.nat(50), wishes, (current, some) => {
        const set = replicasToSet(deployment(current), some);
        expect(set).not.toBe(current);
        if (set !== undefined) expect(replicasToSet(deployment(set), some)).toBeUndefined();
      }),
    );
  });
});
