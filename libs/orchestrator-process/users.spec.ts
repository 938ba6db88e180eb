import { expect, it } from 'vitest';
import { uidRangeIn } from './users.js';

it('takes the first range of uids that is mapped whole', () => {
  expect(uidRangeIn('         0          0 4294967295')?.first).toBe(1_900_000_000);
  expect(uidRangeIn('0 100000 1000000')?.first).toBe(200_000);
  expect(uidRangeIn('0 1000 1\n1 100000 65536')?.first).toBe(30_000);
  expect(uidRangeIn('0 1000 1')).toBeUndefined();
});
