import type { ApiKey, Scope } from '#libs/config/api-keys.js';
import crypto from 'node:crypto';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { syncBuiltinESMExports } from 'node:module';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Authenticator } from './authenticator.js';

const [KEY, OTHER] = ['a-key-of-sixteen', 'another-key-of-it'];
const KEYS: readonly ApiKey[] = [
  { name: 'one', scope: 'admin', secret: KEY },
  { name: 'other', scope: 'admin', secret: OTHER },
];
const request = (headers: IncomingHttpHeaders) => ({ headers }) as IncomingMessage;

interface Refused {
  readonly code: string;
  readonly reason?: string;
  readonly message: string;
}

function refusalOf(from: Authenticator, headers: IncomingHttpHeaders, needed: Scope = 'admin'): Refused | undefined {
  try {
    from.authenticate(request(headers), needed);
    return undefined;
  } catch (error) {
    return error as Refused;
  }
}

describe('Authenticator with keys', () => {
  const authenticator = new Authenticator(KEYS, false);
  afterEach(() => {
    vi.restoreAllMocks();
    syncBuiltinESMExports();
  });

  it.each([
    [{ authorization: `Bearer ${KEY}` }, 'one'],
    [{ authorization: `bearer   ${OTHER}` }, 'other'],
    [{ 'x-api-key': OTHER }, 'other'],
    [{ 'x-api-key': KEY, host: 'faas.example.org', origin: 'https://elsewhere.example.org' }, 'one'],
  ])('knows who sends %j', (headers, key) => {
    expect(authenticator.authenticate(request(headers), 'admin')).toEqual({ key, scope: 'admin' });
  });

  it.each([
    {},
    { authorization: KEY },
    { authorization: `Basic ${KEY}` },
    { authorization: `Bearer ${KEY} ${OTHER}` },
    { authorization: 'Bearer ' },
    { 'x-api-key': '' },
    { host: 'localhost' },
  ])('finds no key in %j', (headers) => {
    expect(refusalOf(authenticator, headers)).toMatchObject({ code: 'unauthorized', reason: 'missing_key' });
  });

  it.each([
    { authorization: `Bearer ${KEY.toUpperCase()}` },
    { 'x-api-key': `${KEY}x` },
    { 'x-api-key': KEY.slice(0, -1) },
    { 'x-api-key': `${KEY},${OTHER}` },
    { 'x-api-key': `one:admin:${KEY}` },
    { 'x-api-key': 'wrong', authorization: `Bearer ${KEY}` },
  ])('finds a wrong key in %j', (headers) => {
    expect(refusalOf(authenticator, headers)).toMatchObject({ code: 'unauthorized', reason: 'wrong_key' });
  });

  it.each([
    [['X-Api-Key', KEY], ['x-api-key']],
    [
      ['Authorization', `Bearer ${KEY}`, 'X-Api-Key', OTHER],
      ['authorization', 'x-api-key'],
    ],
    [['Authorization', 'Basic eA==', 'authorization', `bearer ${OTHER}`], ['authorization']],
    [['X-Api-Key', 'of the function', 'X-API-KEY', KEY], ['x-api-key']],
    [['Authorization', 'Bearer of-the-function', 'X-Mine', KEY], []],
  ])('finds the headers that hold keys among %j', (rawHeaders, names) => {
    const headers: IncomingHttpHeaders = {};
    for (let index = 0; index < rawHeaders.length; index += 2) {
      headers[rawHeaders[index]!.toLowerCase()] ??= rawHeaders[index + 1];
    }
    expect(authenticator.keyHeaders({ headers, rawHeaders } as IncomingMessage)).toEqual(names);
  });

  it('compares every key in constant time, whether the first one fits or none does', () => {
    const compare = vi.spyOn(crypto, 'timingSafeEqual');
    syncBuiltinESMExports();
    for (const key of [KEY, OTHER, 'wrong', 'a much longer wrong key than any of them']) {
      compare.mockClear();
      refusalOf(authenticator, { 'x-api-key': key });
      expect(compare).toHaveBeenCalledTimes(2);
      for (const [given, expected] of compare.mock.calls) expect(given.byteLength).toBe(expected.byteLength);
    }
  });
});

describe('A key of one scope', () => {
  const scopes = ['admin', 'deploy', 'invoke', 'metrics'] as const;
  const authenticator = new Authenticator(
    scopes.map((scope) => ({ name: `for-${scope}`, scope, secret: `${KEY}-${scope}` })),
    false,
  );

  it.each(scopes)('%s lets in to what needs that scope and, but for admin, to nothing else', (scope) => {
    const refused = scopes.filter((needed) => refusalOf(authenticator, { 'x-api-key': `${KEY}-${scope}` }, needed));
    expect(refused).toEqual(scope === 'admin' ? [] : scopes.filter((other) => other !== scope));
  });

  it('gets an error with its own scope and the scope that is needed', () => {
    const refusal = refusalOf(authenticator, { 'x-api-key': `${KEY}-metrics` }, 'deploy');
    expect(refusal).toMatchObject({ code: 'forbidden' });
    expect(refusal!.message).toBe(
      'The key "for-metrics" is of scope metrics: this needs one of scope deploy or admin.',
    );
    expect(refusalOf(authenticator, { 'x-api-key': `${KEY}-invoke` }, 'admin')!.message).toMatch(
      /one of scope admin\.$/,
    );
  });
});

describe('Authenticator without keys', () => {
  const authenticator = new Authenticator([], false);

  it.each([
    { host: 'localhost:8080' },
    { host: '127.0.0.1' },
    { host: '127.8.9.10:1' },
    { host: '[::1]:8080', origin: 'http://[::1]:8080' },
    { host: 'LOCALHOST', origin: 'http://localhost', 'sec-fetch-site': 'same-origin' },
    { host: 'localhost:80', origin: 'http://localhost' },
    { host: 'localhost', 'sec-fetch-site': 'none' },
    {},
  ])('lets in programs of this machine and pages of its own: %j', (headers) => {
    expect(refusalOf(authenticator, headers)).toBeUndefined();
  });

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
    { host: 'localhost', origin: 'https://localhost' },
    { host: 'localhost:8080', origin: 'http://localhost:3000' },
    { host: 'localhost:8080', origin: 'http://127.0.0.1:8080' },
    { host: 'localhost', origin: '' },
    { origin: 'http://localhost' },
    { host: 'localhost', 'sec-fetch-site': 'cross-site' },
    { host: 'localhost', 'sec-fetch-site': 'same-site' },
    { host: 'localhost', 'sec-fetch-site': 'whatever' },
  ])('refuses what a page of anybody else may have sent: %j', (headers) => {
    expect(refusalOf(authenticator, headers)).toMatchObject({ code: 'foreign_origin' });
  });

  it.each([
    { host: 'faas.example.org' },
    { host: 'faas.example.org', origin: 'https://faas.example.org', 'sec-fetch-site': 'same-origin' },
    { host: 'faas.example.org:8080', origin: 'http://faas.example.org:8080' },
    { host: '10.0.0.1', 'sec-fetch-site': 'none' },
  ])('lets in programs of any machine and pages of its own once it is disabled: %j', (headers) => {
    expect(refusalOf(new Authenticator([], true), headers)).toBeUndefined();
  });

  it.each([
    { host: 'faas.example.org', origin: 'null' },
    { host: 'faas.example.org', origin: 'https://evil.example.org' },
    { host: 'faas.example.org', origin: 'http://faas.example.org:9' },
    { host: 'faas.example.org', 'sec-fetch-site': 'same-site' },
  ])('refuses pages of anybody else even when it is disabled: %j', (headers) => {
    expect(refusalOf(new Authenticator([], true), headers)).toMatchObject({ code: 'foreign_origin' });
  });

  it.each([true, false])('lets in pages of trusted origins, and of them alone (disabled: %s)', (disabled) => {
    const trusting = new Authenticator([], disabled, ['https://console.example.org']);
    const from = (origin: string) => ({ host: 'localhost:8080', origin, 'sec-fetch-site': 'cross-site' });
    expect(refusalOf(trusting, from('https://console.example.org'))).toBeUndefined();
    for (const origin of ['https://console.example.org:8443', 'http://console.example.org', 'null']) {
      expect(refusalOf(trusting, from(origin))).toMatchObject({ code: 'foreign_origin' });
    }
  });
});
