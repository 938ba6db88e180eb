import { loadConfig } from '#libs/config/load-config.js';
import { describe, expect, it } from 'vitest';
import { PayloadTooLarge } from '../gateway/errors.js';
import { InvalidInvocation } from './errors.js';
import type { InvocationPolicy } from './invocation-policy.js';
import { invocationIn } from './invocation-request.js';

const { callbacks } = loadConfig({
  CALLBACKS_SECRETS: 'a-secret-of-callbacks-0123',
  CALLBACKS_ALLOW: '10.1.0.0/16',
}).invocations;
const LIMITS = { payloadBytes: 1_000_000, maxAttempts: 3, backoffMs: 1_000, maxAgeMs: 60_000, callbacks, defaults: {} };
const read = (body: object | string, defaults: InvocationPolicy = {}) =>
  invocationIn(Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)), { ...LIMITS, defaults });

describe('a call for later', () => {
  it('has the installation’s defaults where it says nothing, as it has where it says null', () => {
    const plain = read({ payload: 'x' });
    expect(plain).toEqual({
      body: Buffer.from('{"payload":"x"}'),
      payloadBytes: 1,
      delayMs: 0,
      notBefore: null,
      http: null,
      priority: 1,
      retry: { maxAttempts: 3, on: ['error', 'timeout', 'crash'], backoffMs: 1_000 },
      maxAgeMs: 60_000,
      callbackUrl: null,
      callbackFormat: 'plain',
    });
    const names = [
      'delay_ms',
      'not_before',
      'priority',
      'max_attempts',
      'retry_on',
      'backoff_ms',
      'max_age_ms',
      'callback_url',
      'callback_format',
    ];
    expect(read({ payload: 'x', ...Object.fromEntries(names.map((name) => [name, null])) })).toEqual(plain);
  });

  it('has what it says', () => {
    const said = { delay_ms: 5, priority: 'high', max_attempts: 1, retry_on: ['crash', 'crash'], backoff_ms: 0 };
    expect(read({ payload: '', ...said, max_age_ms: 1 })).toMatchObject({
      delayMs: 5,
      priority: 2,
      retry: { maxAttempts: 1, on: ['crash'], backoffMs: 0 },
      maxAgeMs: 1,
    });
    const moment = new Date(Date.now() + 1_000);
    expect(read({ payload: '', not_before: moment.toISOString() }).notBefore).toEqual(moment);
  });

  it('has what its function says where it says nothing itself', () => {
    const defaults = {
      max_attempts: 7,
      retry_on: ['crash'],
      backoff_ms: 5,
      callback_url: 'https://example.org/a b',
    } as const;
    expect(read({ payload: '' }, { ...defaults, callback_format: 'binary' })).toMatchObject({
      retry: { maxAttempts: 7, on: ['crash'], backoffMs: 5 },
      maxAgeMs: 60_000,
      callbackUrl: 'https://example.org/a%20b',
      callbackFormat: 'binary',
    });
    const said = { max_attempts: 1, retry_on: [], callback_url: 'https://example.org/' };
    expect(read({ payload: '', ...said }, defaults)).toMatchObject({
      retry: { maxAttempts: 1, on: [], backoffMs: 5 },
      callbackUrl: 'https://example.org/',
    });
    expect(read({ payload: '', max_attempts: null, callback_url: null }, defaults)).toMatchObject({
      retry: { maxAttempts: 7 },
      callbackUrl: null,
    });
  });

  it('is refused where its function names a callback that may not be any more, unless it wants none', () => {
    const defaults = { callback_url: 'http://127.0.0.1/' };
    expect(() => read({ payload: '' }, defaults)).toThrow(/callback_url leads to 127/);
    expect(read({ payload: '', callback_url: null }, defaults).callbackUrl).toBeNull();
  });

  it('sends on a long payload byte for byte as it came', () => {
    const literal = `"${'\\u00e4'.repeat(30_000)}"`;
    const { body, payloadBytes } = read(`{"delay_ms": 1, "payload": ${literal}, "priority": "low"}`);
    expect(body.toString()).toBe(`{"payload":${literal}}`);
    expect(payloadBytes).toBe(60_000);
    expect(() => read(`{"payload": "${'x'.repeat(LIMITS.payloadBytes + 1)}"}`)).toThrow(PayloadTooLarge);
  });

  it.each([
    ['delay_ms', 1.5],
    ['delay_ms', '1'],
    ['delay_ms', 31 * 24 * 3_600_000],
    ['max_attempts', 101],
    ['backoff_ms', -1],
    ['max_age_ms', 0],
    ['priority', 'urgent'],
    ['retry_on', 'error'],
    ['retry_on', ['error', 'error', 'error', 'error']],
    ['not_before', '2026-13-01T00:00:00Z'],
    ['not_before', '2126-01-01T00:00:00Z'],
  ])('says what is wrong with %s %j', (name, value) => {
    const attempt = () => read({ payload: '', [name]: value });
    expect(attempt).toThrow(InvalidInvocation);
    expect(attempt).toThrow(name);
  });

  it('tells of its end at public addresses, and at those that are allowed', () => {
    const url = (callback_url: unknown) => read({ payload: '', callback_url }).callbackUrl;
    for (const one of ['https://example.org/hook?x=1', 'http://10.1.2.3:8080/', 'https://[2606:4700::1]/']) {
      expect(url(one)).toBe(one);
    }
    // As PostgreSQL can keep it.
    expect(url('HTTPS://example.org/a b\0\ud800?c')).toBe('https://example.org/a%20b%00%EF%BF%BD?c');
    for (const one of [
      7,
      'x',
      'ftp://example.org',
      'https://u:p@example.org',
      `https://example.org/${'x'.repeat(2_048)}`,
    ]) {
      expect(() => url(one)).toThrow('callback_url');
    }
    for (const one of [
      '127.0.0.1',
      '0x7f000001',
      '10.2.0.1',
      '169.254.169.254',
      '[::1]',
      '[::ffff:10.2.0.1]',
      '[fd00::1]',
    ]) {
      expect(() => url(`http://${one}/`)).toThrow('no public address');
    }
    const none = { ...LIMITS, callbacks: { ...callbacks, secrets: [] } };
    const body = Buffer.from('{"payload": "", "callback_url": "https://example.org/"}');
    expect(() => invocationIn(body, none)).toThrow('CALLBACKS_SECRETS');
  });

  it('has one moment only', () => {
    expect(() => read({ payload: '', delay_ms: 1, not_before: '2026-01-01T00:00:00Z' })).toThrow('not both');
  });
});
