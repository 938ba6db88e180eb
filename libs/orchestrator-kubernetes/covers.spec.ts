import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { covers } from './covers.js';

describe('covers', () => {
  it.each([
    ['what others added', { a: 1, status: {} }, { a: 1 }, true],
    ['a field that nothing is said of', { a: 1 }, { a: 1, b: undefined }, true],
    ['another value', { a: 1 }, { a: 2 }, false],
    ['a value of another type', { a: '1' }, { a: 1 }, false],
    ['a missing field', {}, { a: 1 }, false],
    ['a false that is missing', {}, { a: false }, false],
    ['nothing at all', undefined, { a: 1 }, false],
    ['null where an object belongs', { a: null }, { a: {} }, false],
    ['a list with defaults in its elements', { l: [{ a: 1, b: 2 }] }, { l: [{ a: 1 }] }, true],
    ['a list that is longer', { l: [1, 2] }, { l: [1] }, false],
    ['a list that is shorter', { l: [1] }, { l: [1, 2] }, false],
    ['a list in another order', { l: [1, 2] }, { l: [2, 1] }, false],
    ['an object where a list belongs', { l: {} }, { l: [] }, false],
  ])('sees %s', (_what, live, wanted, answer) => expect(covers(live, wanted)).toBe(answer));

  it('lets every object cover itself, whatever is added to it', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.jsonValue(), (wanted, more) => {
        expect(covers(wanted, wanted)).toBe(true);
        expect(covers({ more, ...wanted }, wanted)).toBe(true);
      }),
    );
  });

  it('notices every element that is gone', () => {
    fc.assert(
      fc.property(fc.array(fc.integer(), { minLength: 1 }), fc.nat(), (list, at) => {
        expect(covers({ list: list.toSpliced(at % list.length, 1) }, { list })).toBe(false);
      }),
    );
  });
});
