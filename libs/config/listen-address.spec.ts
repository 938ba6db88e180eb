import fc from 'fast-check';
import { isIPv6 } from 'node:net';
import { describe, expect, it } from 'vitest';
import { isLoopback, isWildcard, parseListenAddress } from './listen-address.js';

describe('parseListenAddress', () => {
  it.each([
    ['8080', '::', 8080],
    [':8080', '::', 8080],
    ['localhost:0', 'localhost', 0],
    ['127.0.0.1:65535', '127.0.0.1', 65_535],
    ['[::1]:80', '::1', 80],
    ['[::ffff:127.0.0.1]:80', '::ffff:127.0.0.1', 80],
  ])('reads %s', (text, host, port) => expect(parseListenAddress(text)).toEqual({ host, port }));

  it.each([
    '',
    ':',
    'host',
    'host:',
    ':65536',
    ':-1',
    '[::1]',
    '::1:80',
    '[1.2.3.4]:80',
    '[x]:1',
    'a b:1',
    ':1 ',
    ':1\n',
  ])('refuses %j', (text) => expect(parseListenAddress(text)).toBeUndefined());

  it('reads every IP address and port it is given', () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), fc.integer({ min: 0, max: 65_535 }), (host, port) => {
        const text = isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
        expect(parseListenAddress(text)).toEqual({ host, port });
      }),
    );
  });

  it('never takes one address for loopback and every interface at once', () => {
    expect(['0.0.0.0', '::'].every((host) => isWildcard(host) && !isLoopback(host))).toBe(true);
    expect(['127.0.0.1', '127.255.1.2', '::1', 'localhost'].every((host) => isLoopback(host))).toBe(true);
    expect(['128.0.0.1', '127.0.0.1.example.org', 'localhost.example.org', ''].some((host) => isLoopback(host))).toBe(
      false,
    );
  });
});
