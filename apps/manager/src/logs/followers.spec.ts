import { expect, it } from 'vitest';
import { TooManyFollowers } from './errors.js';
import { Followers } from './followers.js';

it('admits sixteen followers of a function and sixty-four in all, and one more once another has left', () => {
  const followers = new Followers();
  const places = ['a', 'b', 'c', 'd'].flatMap((id) => Array.from({ length: 16 }, () => followers.add(id)));
  expect(followers.count).toBe(64);
  expect(() => followers.add('e')).toThrow(/^64 clients follow logs on this manager/);
  places[0]?.[Symbol.dispose]();
  expect(() => followers.add('b')).toThrow(TooManyFollowers);
  expect(() => followers.add('b')).toThrow(/^16 clients follow this function's log/);
  followers.add('e');
  for (const place of places.slice(1)) place[Symbol.dispose]();
  expect(followers.count).toBe(1);
});
