import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { parseSecretsKeys } from './secrets-keys.js';

const KEY = randomBytes(32);
const OTHER = randomBytes(32);

function read(text: string) {
  const faults: string[] = [];
  return { keys: parseSecretsKeys(text, faults), faults };
}

describe('keys of secrets', () => {
  it('are parted by commas or lines, in their order, in either alphabet of base64', () => {
    const { keys, faults } = read(`new:${KEY.toString('base64')},\nold:${OTHER.toString('base64url')}`);
    expect(faults).toEqual([]);
    expect(keys).toEqual([
      { id: 'new', key: KEY },
      { id: 'old', key: OTHER },
    ]);
    expect(read('')).toEqual({ keys: [], faults: [] });
  });

  it.each([
    [KEY.toString('base64').replaceAll(':', ''), 'entry 1: it must be id:key'],
    [`a b:${KEY.toString('base64')}`, 'entry 1: the id may hold'],
    ['one:not base64!', 'entry 1: the key of "one" is not base64'],
    [`one:${KEY.subarray(1).toString('base64')}`, 'entry 1: the key of "one" has 31 bytes, and must have 32'],
    [`one:${KEY.toString('base64')},one:${OTHER.toString('base64')}`, 'entry 2: the id "one" is taken'],
    [`one:${KEY.toString('base64')},two:${KEY.toString('base64')}`, 'entry 2: the key of "two" is the same'],
  ])('are refused with what is wrong and nothing of the key: %#', (text, fault) => {
    const { faults } = read(text);
    expect(faults).toHaveLength(1);
    expect(faults[0]).toContain(fault);
    expect(faults[0]).not.toContain(KEY.toString('base64').slice(0, 8));
  });
});
