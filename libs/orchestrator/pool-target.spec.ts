import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type PoolDemand, poolSizeFor, poolTarget, roomIn } from './pool-target.js';

describe('poolTarget', () => {
  it.each<[string, PoolDemand, number]>([
    ['is the configured size when nothing happens', { size: 2, recent: 0, room: 9, members: 0 }, 2],
    ['grows with what was asked for lately', { size: 2, recent: 5, room: 9, members: 2 }, 5],
    ['grows to four times its size at most', { size: 2, recent: 50, room: 99, members: 2 }, 8],
    ['keeps what there is when there is no memory for more', { size: 4, recent: 9, room: 0, members: 3 }, 3],
    ['gives back what the memory is too short for', { size: 4, recent: 9, room: -2, members: 5 }, 3],
    ['is as large as the memory allows', { size: 4, recent: 0, room: 1, members: 0 }, 1],
    ['is nothing where none is wanted, whatever was asked for', { size: 0, recent: 50, room: 99, members: 0 }, 0],
  ])('%s', (_, demand, target) => {
    expect(poolTarget(demand)).toBe(target);
  });

  it('never asks for more than there is memory for, nor for less than none', () => {
    const count = fc.nat({ max: 10_000 });
    fc.assert(
      fc.property(count, count, fc.integer({ min: -10_000, max: 10_000 }), count, (size, recent, room, members) => {
        const target = poolTarget({ size, recent, room, members });
        expect(target).toBeGreaterThanOrEqual(0);
        expect(target).toBeLessThanOrEqual(Math.min(size * 4, Math.max(0, members + room)));
      }),
    );
  });
});

describe('roomIn', () => {
  it('leaves most of the free memory to workers that serve', () => {
    expect(roomIn(8 * 2 ** 30, 0)).toBe(78);
    expect(roomIn(100 * 2 ** 20, 0)).toBe(0);
    expect(roomIn(-1, 0)).toBe(0);
  });

  it('takes from the pool when the memory gets short, and the same whatever the pool has given back', () => {
    const member = 26 * 2 ** 20;
    for (const members of [8, 5, 3, 2]) expect(members + roomIn((8 - members) * member, members)).toBe(2);
    expect(4 + roomIn(0, 4)).toBe(1);
  });
});

describe('poolSizeFor', () => {
  it.each([
    ['no fewer than four', 1, 4],
    ['a sixteenth of the memory', 16, 39],
    ['no more than 64', 256, 64],
  ])('is %s', (_, gib, size) => {
    expect(poolSizeFor(gib * 2 ** 30)).toBe(size);
  });
});
