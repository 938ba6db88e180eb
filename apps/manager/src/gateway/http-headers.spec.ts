import type { IncomingMessage } from 'node:http';
import { describe, expect, it } from 'vitest';
import { headersForWorker, headersOfHandler } from './http-headers.js';

const UNDER_PATH = { root: '/f/shop' };
const OWN_HOST = { root: '' };

function requestWith(pairs: readonly (readonly [string, string])[]): IncomingMessage {
  const headers = Object.fromEntries(pairs.map(([name, value]) => [name.toLowerCase(), value]));
  return { rawHeaders: pairs.flat(), headers, socket: { remoteAddress: '::ffff:192.0.2.1' } } as never;
}

function given(pairs: readonly (readonly [string, string])[], mount = UNDER_PATH, withheld: readonly string[] = []) {
  const flat = headersForWorker(requestWith(pairs), mount, withheld, 'r1');
  const found: [string, string][] = [];
  for (let index = 0; index < flat.length; index += 2) found.push([flat[index]!, flat[index + 1]!]);
  return found;
}

const named = (pairs: readonly (readonly [string, string])[], name: string) =>
  pairs.filter(([found]) => found === name).map(([, value]) => value);

describe('headersForWorker', () => {
  it('passes on what is for the handler, each as often as it was sent', () => {
    const found = given([
      ['Host', 'shop.example'],
      ['Cookie', 'a=1'],
      ['X-Many', '1'],
      ['x-many', '2'],
    ]);
    expect(found).toContainEqual(['host', 'shop.example']);
    expect(named(found, 'cookie')).toEqual(['a=1']);
    expect(named(found, 'x-many')).toEqual(['1', '2']);
    expect(named(found, 'x-request-id')).toEqual(['r1']);
  });

  it.each([
    'Connection',
    'Keep-Alive',
    'TE',
    'Trailer',
    'Transfer-Encoding',
    'Upgrade',
    'Proxy-Authorization',
    'Proxy-Connection',
    'Expect',
    'Content-Length',
    'X-Faas-Token',
    'X-Faas-Function',
    'X-Faas-Answer',
  ])('keeps %s to itself', (name) => {
    expect(named(given([[name, '1']]), name.toLowerCase())).toEqual([]);
  });

  it('drops what the connection names, and headers that hold keys', () => {
    const found = given(
      [
        ['Connection', 'close, X-Hop'],
        ['X-Hop', '1'],
        ['X-Api-Key', 'secret'],
        ['Authorization', 'Bearer of-the-function'],
      ],
      UNDER_PATH,
      ['x-api-key'],
    );
    expect(found.map(([name]) => name)).not.toEqual(expect.arrayContaining(['x-hop']));
    expect(named(found, 'x-api-key')).toEqual([]);
    expect(named(found, 'authorization')).toEqual(['Bearer of-the-function']);
  });

  it('says who calls, by which name, and where the function is', () => {
    const direct = given([['Host', 'm.example:8080']]);
    expect(named(direct, 'x-forwarded-for')).toEqual(['192.0.2.1']);
    expect(named(direct, 'x-forwarded-host')).toEqual(['m.example:8080']);
    expect(named(direct, 'x-forwarded-proto')).toEqual(['http']);
    expect(named(direct, 'x-forwarded-prefix')).toEqual(['/f/shop']);
    expect(named(direct, 'x-faas-root')).toEqual(['/f/shop']);
    const proxied = given(
      [
        ['Host', 'inner'],
        ['X-Forwarded-For', '203.0.113.7'],
        ['X-Forwarded-Proto', 'https'],
        ['X-Forwarded-Host', 'shop.example'],
        ['X-Forwarded-Prefix', '/forged'],
      ],
      OWN_HOST,
    );
    expect(named(proxied, 'x-forwarded-for')).toEqual(['203.0.113.7, 192.0.2.1']);
    expect(named(proxied, 'x-forwarded-proto')).toEqual(['https']);
    expect(named(proxied, 'x-forwarded-host')).toEqual(['shop.example']);
    expect(named(proxied, 'x-forwarded-prefix')).toEqual([]);
    expect(named(proxied, 'x-faas-root')).toEqual([]);
  });

  it('gives signs of a web page another name, so that the worker takes the call for its manager’s', () => {
    const found = given([
      ['Origin', 'https://page.example'],
      ['Sec-Fetch-Site', 'cross-site'],
    ]);
    expect(named(found, 'origin')).toEqual([]);
    expect(named(found, 'x-faas-header-origin')).toEqual(['https://page.example']);
    expect(named(found, 'x-faas-header-sec-fetch-site')).toEqual(['cross-site']);
  });
});

describe('headersOfHandler', () => {
  const answered = (headers: Record<string, unknown>, mount = UNDER_PATH) => headersOfHandler(headers, mount);

  it('passes on what is for the caller', () => {
    const headers = { 'content-type': 'text/html', 'set-cookie': ['a=1', 'b=2; Path=/'], 'content-length': '7' };
    expect(answered(headers, OWN_HOST)).toEqual({
      pairs: ['content-type', 'text/html', 'set-cookie', 'a=1', 'set-cookie', 'b=2; Path=/', 'content-length', '7'],
    });
  });

  it.each([
    ['a=1', 'a=1; Path=/f/shop'],
    ['a=1; Path=/; Domain=example.org; HttpOnly', 'a=1; HttpOnly; Path=/f/shop'],
    ['a=1;path=/f/other', 'a=1; Path=/f/shop'],
    ['a=1; PATH = /f/shop/basket ; Secure', 'a=1; Secure; Path=/f/shop/basket'],
    ['a=1; Path=/f/shop/basket; Path=/', 'a=1; Path=/f/shop'],
    ['a=1; domain; path', 'a=1; Path=/f/shop'],
    ['a=1; Path=/f/shopping', 'a=1; Path=/f/shop'],
  ])('keeps the cookie %j to the function', (cookie, kept) => {
    expect(answered({ 'set-cookie': cookie })).toEqual({ pairs: ['set-cookie', kept] });
  });

  it('drops what is of the connection, and what reaches beyond the function', () => {
    const headers = {
      connection: 'close',
      'transfer-encoding': 'chunked',
      upgrade: 'x',
      'x-faas-answer': '1',
      'x-request-id': 'forged',
    };
    const ofTheOrigin = {
      'alt-svc': 'h2=":443"',
      'clear-site-data': '"*"',
      nel: '{}',
      'report-to': '{}',
      'reporting-endpoints': 'a="/"',
      'service-worker-allowed': '/',
      'strict-transport-security': 'max-age=1',
    };
    expect(answered({ ...headers, ...ofTheOrigin })).toEqual({ pairs: [] });
    expect(answered({ ...headers, ...ofTheOrigin }, OWN_HOST)).toEqual({ pairs: Object.entries(ofTheOrigin).flat() });
  });

  it.each([
    ['too many', Object.fromEntries(Array.from({ length: 161 }, (_, n) => [`x-${n}`, '']))],
    ['too large', { x: 'y'.repeat(20 * 1024) }],
    ['of no length', { 'content-length': '-1' }],
    ['of two lengths', { 'content-length': '1, 1' }],
  ])('finds fault with headers that are %s', (_, headers) => {
    expect(answered(headers)).toHaveProperty('fault');
  });
});
