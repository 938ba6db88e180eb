import type { LookupAddress } from 'node:dns';
import { parseEgressRange, type EgressRange } from '#libs/config/egress-range.js';
import { describe, expect, it } from 'vitest';
import { allowedLookup, checkLiteral, isAllowed, TargetRefused, targetFault, Lookups } from './callback-target.js';

const NONE: readonly EgressRange[] = [];
const ranges = (...entries: string[]) => entries.map((entry) => parseEgressRange(entry) as EgressRange);

describe('where callbacks may go', () => {
  it.each(['1.1.1.1', '93.184.216.34', '172.32.0.1', '2606:4700::1111', '2a00:1450::1'])('is %s', (address) => {
    expect(isAllowed(address, 443, NONE)).toBe(true);
  });

  it.each([
    '0.0.0.0',
    '10.0.0.1',
    '100.64.0.1',
    '127.0.0.1',
    '127.255.0.1',
    '169.254.169.254',
    '172.16.0.1',
    '192.0.2.1',
    '192.168.1.1',
    '198.18.0.1',
    '224.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    '::ffff:127.0.0.1',
    '::ffff:10.0.0.1',
    '64:ff9b::a00:1',
    'fc00::1',
    'fd12::1',
    'fe80::1',
    'ff02::1',
    '2001::1',
    '2001:db8::1',
    '2002:7f00:1::1',
  ])('is not %s', (address) => {
    expect(isAllowed(address, 443, NONE)).toBe(false);
  });

  it('is what is allowed beside, by its port where that is named', () => {
    const allow = ranges('10.1.0.0/16', '192.168.0.5:8443', 'fd00::/8');
    expect(isAllowed('10.1.2.3', 80, allow)).toBe(true);
    expect(isAllowed('10.2.2.3', 80, allow)).toBe(false);
    expect(isAllowed('192.168.0.5', 8_443, allow)).toBe(true);
    expect(isAllowed('192.168.0.5', 443, allow)).toBe(false);
    expect(isAllowed('fd00::1', 1, allow)).toBe(true);
  });

  it('is told of literal addresses in any spelling', () => {
    for (const host of ['127.1', '2130706433', '0177.0.0.1', '[::ffff:7f00:1]', '127.0.0.1.']) {
      expect(() => checkLiteral(new URL(`http://${host}/`), NONE), host).toThrow(TargetRefused);
    }
    expect(targetFault('http://localhost/', NONE)).toBeUndefined();
  });
});

describe('the resolver of a callback’s socket', () => {
  const resolving = (addresses: LookupAddress[]) =>
    ((_: string, __: object, done: (error: null, found: LookupAddress[]) => void) => done(null, addresses)) as never;
  const lookup = (addresses: LookupAddress[], all: boolean) =>
    new Promise((resolve, reject) => {
      allowedLookup(443, NONE, resolving(addresses))('example.org', { all }, (error, found) => {
        if (error === null) resolve(found);
        else reject(error);
      });
    });
  const [good, bad] = [
    { address: '1.1.1.1', family: 4 },
    { address: '10.0.0.1', family: 4 },
  ];

  it('answers with addresses that are allowed, and leaves the others out', async () => {
    expect(await lookup([bad, good], true)).toEqual([good]);
    expect(await lookup([bad, good], false)).toBe('1.1.1.1');
  });

  it('answers with nothing where none is', async () => {
    await expect(lookup([bad], true)).rejects.toThrow('example.org is no public address');
    await expect(lookup([], false)).rejects.toThrow(TargetRefused);
  });
});

describe('lookups of callbacks’ names', () => {
  it('are two at once, however long a name server takes', async () => {
    const asked: string[] = [];
    const answers: (() => void)[] = [];
    const lookups = new Lookups(60_000, (host, _, found) => {
      asked.push(host);
      answers.push(() => found(null, []));
    });
    const found = ['a', 'b', 'c', 'd'].map(
      (host) => new Promise<void>((resolve) => lookups.lookup(host, { all: true }, () => resolve())),
    );
    expect(asked).toEqual(['a', 'b']);
    answers[1]!();
    await found[1];
    expect(asked).toEqual(['a', 'b', 'c']);
    answers[0]!();
    answers[2]!();
    answers[3]!();
    await Promise.all(found);
  });

  it('are given up when none of those ends in time', async () => {
    const lookups = new Lookups(20, () => undefined);
    const ask = (host: string) =>
      new Promise<Error | null>((resolve) => lookups.lookup(host, { all: true }, (error) => resolve(error)));
    void ask('a');
    void ask('b');
    expect((await ask('c'))?.message).toBe('the address of c could not be asked for in time');
  });
});
