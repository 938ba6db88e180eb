import crypto from 'node:crypto';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { syncBuiltinESMExports } from 'node:module';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Access } from './access.js';

const [KEY, OTHER] = ['a-key-of-sixteen', 'another-key-of-it'];
const request = (headers: IncomingHttpHeaders) => ({ headers }) as IncomingMessage;
const refusalOf = (access: Access, headers: IncomingHttpHeaders): string | undefined => {
  try {
    access.check(request(headers));
    return undefined;
  } catch (error) {
    return (error as { code: string }).code;
  }
};

describe('Access with keys', () => {
  const access = new Access({ apiKeys: [KEY, OTHER], disabled: false });
  afterEach(() => {
    vi.restoreAllMocks();
    syncBuiltinESMExports();
  });

  it.each([
    { authorization: `Bearer ${KEY}` },
    { authorization: `bearer   ${OTHER}` },
    { 'x-api-key': OTHER },
    { 'x-api-key': KEY, host: 'faas.example.org', origin: 'https://elsewhere.example.org' },
  ])('lets in %j', (headers) => expect(refusalOf(access, headers)).toBeUndefined());

  it.each([
    {},
    { authorization: KEY },
    { authorization: `Basic ${KEY}` },
    { authorization: `Bearer ${KEY} ${OTHER}` },
    { authorization: 'Bearer ' },
    { authorization: `Bearer ${KEY.toUpperCase()}` },
    { 'x-api-key': '' },
    { 'x-api-key': `${KEY}x` },
    { 'x-api-key': KEY.slice(0, -1) },
    { 'x-api-key': `${KEY},${OTHER}` },
    { 'x-api-key': 'wrong', authorization: `Bearer ${KEY}` },
    { host: 'localhost' },
  ])('refuses %j', (headers) => expect(refusalOf(access, headers)).toBe('unauthorized'));

  it('compares every key in constant time, whether the first one fits or none does', () => {
    const compare = vi.spyOn(crypto, 'timingSafeEqual');
    syncBuiltinESMExports();
    for (const key of [KEY, OTHER, 'wrong', 'a much longer wrong key than any of them']) {
      compare.mockClear();
      refusalOf(access, { 'x-api-key': key });
      expect(compare).toHaveBeenCalledTimes(2);
      for (const [given, expected] of compare.mock.calls) expect(given.byteLength).toBe(expected.byteLength);
    }
  });
});

describe('Access without keys', () => {
  const access = new Access({ apiKeys: [], disabled: false });

  it.each([
    { host: 'localhost:8080' },
    { host: '127.0.0.1' },
    { host: '127.8.9.10:1' },
    { host: '[::1]:8080', origin: 'http://[::1]:8080' },
    { host: 'LOCALHOST', origin: 'http://localhost:3000', 'sec-fetch-site': 'same-origin' },
    { host: 'localhost', 'sec-fetch-site': 'none' },
    {},
  ])('lets programs of this machine in: %j', (headers) => expect(refusalOf(access, headers)).toBeUndefined());

  it.each([
    { host: 'evil.example.org' },
    { host: 'localhost.evil.example.org:8080' },
    { host: '127.0.0.1.evil.example.org' },
    { host: 'localhost@evil.example.org' },
    { host: '10.0.0.1:8080' },
    { host: '[2001:db8::1]:8080' },
    { host: '' },
    { host: 'localhost', origin: 'https://evil.example.org' },
    { host: 'localhost', origin: 'null' },
    { host: 'localhost', origin: 'file://' },
    { host: 'localhost', 'sec-fetch-site': 'cross-site' },
  ])('refuses what a web page elsewhere sent: %j', (headers) => {
    expect(refusalOf(access, headers)).toBe('foreign_origin');
  });

  it('asks nothing of anybody once it is disabled', () => {
    const open = new Access({ apiKeys: [], disabled: true });
    expect(refusalOf(open, { host: 'evil.example.org', origin: 'null' })).toBeUndefined();
  });
});
