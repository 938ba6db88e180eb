import { expect, it } from 'vitest';
import { nextOf } from './list.command.js';

it.each([
  [null, undefined],
  ['</functions?limit=2&after=a%2Bb%3D>; rel="next"', 'a+b='],
  ['<https://example.org/faas/functions?after=x&label=a>; rel="next"', 'x'],
  ['</functions>; rel="first"', undefined],
])('finds the next page in %s', (link, after) => expect(nextOf(link)).toBe(after));
