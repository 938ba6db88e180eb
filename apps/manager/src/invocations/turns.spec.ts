import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { turnsOf } from './turns.js';

const asking = (functionId: string, room: number, active = 0) => ({ functionId, room, active });

describe('the places for attempts', () => {
  it('are half a function’s that is alone, however many calls it has', () => {
    expect(turnsOf([asking('a', 1_000)], { free: 100, concurrency: 100 })).toEqual([{ functionId: 'a', most: 50 }]);
    expect(turnsOf([asking('a', 1_000, 50)], { free: 50, concurrency: 100 })).toEqual([]);
  });

  it('are left for others by those that are there', () => {
    // The first one has its half.
    const turns = turnsOf([asking('a', 1_000, 50), asking('b', 1_000)], { free: 50, concurrency: 100 });
    expect(turns).toEqual([{ functionId: 'b', most: 25 }]);
  });

  it('are divided evenly, and what one doesn’t use is for the others', () => {
    const three = [asking('a', 1_000), asking('b', 2), asking('c', 1_000)];
    expect(turnsOf(three, { free: 30, concurrency: 100 })).toEqual([
      { functionId: 'a', most: 13 },
      { functionId: 'b', most: 2 },
      { functionId: 'c', most: 15 },
    ]);
  });

  it('go to the function that has waited for longest when there is but one', () => {
    const turns = turnsOf([asking('first', 10), asking('second', 10)], { free: 1, concurrency: 100 });
    expect(turns).toEqual([{ functionId: 'first', most: 1 }]);
  });

  it('are never more than there are, nor than a function can use, and none is left that could be used', () => {
    const some = fc.record({ active: fc.nat(20), room: fc.integer({ min: -5, max: 200 }) });
    fc.assert(
      fc.property(fc.array(some, { maxLength: 30 }), fc.nat(200), (seen, free) => {
        const asked = seen.map((one, index) => ({ ...one, functionId: String(index) }));
        const concurrency = free + asked.reduce((sum, { active }) => sum + active, 0);
        const turns = turnsOf(asked, { free, concurrency });
        const given = turns.reduce((sum, { most }) => sum + most, 0);
        expect(given).toBeLessThanOrEqual(free);
        for (const { functionId, most } of turns) {
          expect(most).toBeGreaterThan(0);
          expect(most).toBeLessThanOrEqual(asked[Number(functionId)]!.room);
        }
        if (free > 0 && asked.some(({ active, room }) => room > 0 && active === 0)) expect(given).toBeGreaterThan(0);
      }),
    );
  });
});
