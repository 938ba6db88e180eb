import { loadConfig } from '#libs/config/load-config.js';
import { describe, expect, it } from 'vitest';
import type { RequestLimits } from '../invocations/invocation-request.js';
import { checkName, specIn } from './schedule-request.js';

const { invocations, limits } = loadConfig({});
const LIMITS: RequestLimits = { ...limits, ...invocations, defaults: {} };
const NOW = new Date('2026-11-23T12:00:00Z');
const read = (members: Record<string, unknown>, of: Partial<RequestLimits> = {}) =>
  specIn(members, { ...LIMITS, ...of }, NOW);

describe('what a schedule shall be', () => {
  it('is little where little is said', () => {
    const { body, ...spec } = read({ cron: ' 0 3 * * * ' });
    expect(body.toString()).toBe('{"payload":""}');
    expect(spec).toEqual({
      cron: '0 3 * * *',
      intervalMs: null,
      timezone: 'UTC',
      payloadBytes: 0,
      overlap: 'skip',
      catchUpMs: 3_600_000,
      jitterMs: 0,
      pauseAfterFailures: 0,
      enabled: true,
      choice: null,
      priority: 1,
      retry: { maxAttempts: 3, on: ['error', 'timeout', 'crash'], backoffMs: 1_000 },
      maxAgeMs: 86_400_000,
      callbackUrl: null,
      callbackFormat: 'plain',
    });
  });

  it('is all that is said', () => {
    const { body, ...spec } = read({
      ...{ interval_ms: 60_000, payload: 'ü"\0', overlap: 'queue', catch_up_ms: 0, jitter_ms: 59_999 },
      ...{ pause_after_failures: 5, enabled: false, tag: 'canary', priority: 'high', max_attempts: 1, retry_on: [] },
      ...{ backoff_ms: 5, max_age_ms: 6, timezone: 'Asia/Kolkata', cron: null },
    });
    expect(JSON.parse(body.toString())).toEqual({ payload: 'ü"\0' });
    expect(spec).toMatchObject({
      ...{ cron: null, intervalMs: 60_000, timezone: 'Asia/Kolkata', payloadBytes: 4, overlap: 'queue', catchUpMs: 0 },
      ...{ jitterMs: 59_999, pauseAfterFailures: 5, enabled: false, choice: { tag: 'canary' }, priority: 2 },
      ...{ retry: { maxAttempts: 1, on: [], backoffMs: 5 }, maxAgeMs: 6 },
    });
  });

  it.each<[string, Record<string, unknown>, RegExp]>([
    ['cron', {}, /Say when: cron, .* or interval_ms/],
    ['interval_ms', { cron: '@daily', interval_ms: 5_000 }, /not both/],
    ['cron', { cron: 5 }, /text of at most 256/],
    ['cron', { cron: `${'1,'.repeat(200)}1 * * * *` }, /text of at most 256/],
    ['cron', { cron: '' }, /no expression/],
    ['cron', { cron: '* * * *' }, /no expression.*Five fields.*or six/],
    ['cron', { cron: '* * * * * * 2030' }, /no expression: it has five or six fields/],
    ['cron', { cron: '60 * * * *' }, /a value of minute is out of its range/],
    ['cron', { cron: '0 0 32 * *' }, /a value of day is out of its range/],
    ['cron', { cron: '0 0 * * 8' }, /a value of weekday is out of its range/],
    ['cron', { cron: '0 0 15W/2 * *' }, /no expression: (?!it has five)/],
    ['cron', { cron: '* * * * FOO' }, /no expression/],
    ['cron', { cron: '2026-12-24T18:00:00' }, /no colon/],
    ['cron', { cron: '@reboot' }, /reboot is not supported/],
    ['cron', { cron: '@fortnightly' }, /no expression/],
    ['cron', { cron: '0 0 30 2 *' }, /never fires.*day and month/],
    ['cron', { cron: '0 0 31 4,6,9,11 *' }, /never fires/],
    ['cron', { cron: '0 0 29 2 +MON#1' }, /never fires/],
    ['timezone', { cron: '@daily', timezone: 'Mars/Olympus' }, /IANA.*"Mars\/Olympus" is none/],
    ['timezone', { cron: '@daily', timezone: '+02:00' }, /IANA/],
    ['timezone', { cron: '@daily', timezone: '' }, /IANA/],
    ['timezone', { cron: '@daily', timezone: 2 }, /IANA/],
    ['interval_ms', { interval_ms: 999 }, /from 1000 to 31622400000/],
    ['interval_ms', { interval_ms: 1_000.5 }, /whole number/],
    ['interval_ms', { interval_ms: '5000' }, /whole number/],
    ['interval_ms', { interval_ms: 31_622_400_001 }, /from 1000/],
    ['payload', { cron: '@daily', payload: { a: 1 } }, /a string/],
    ['overlap', { cron: '@daily', overlap: 'replace' }, /skip, queue, allow/],
    ['catch_up_ms', { cron: '@daily', catch_up_ms: -1 }, /from 0 to/],
    ['jitter_ms', { interval_ms: 5_000, jitter_ms: 5_000 }, /less than the 5000 milliseconds/],
    ['jitter_ms', { cron: '0,5 * * * *', jitter_ms: 300_000 }, /less than the 300000/],
    ['jitter_ms', { cron: '@daily', jitter_ms: 86_400_001 }, /from 0 to 86400000/],
    ['pause_after_failures', { cron: '@daily', pause_after_failures: 1.5 }, /whole number/],
    ['enabled', { cron: '@daily', enabled: 'yes' }, /true or false/],
    ['revision', { cron: '@daily', revision: 0 }, /from 1/],
    ['tag', { cron: '@daily', revision: 1, tag: 'a' }, /not both/],
    ['tag', { cron: '@daily', tag: 'A B' }, /tag of a target/],
    ['priority', { cron: '@daily', priority: 'urgent' }, /low, normal, high/],
    ['max_attempts', { cron: '@daily', max_attempts: 0 }, /from 1/],
    ['retry_on', { cron: '@daily', retry_on: ['never'] }, /error, timeout, crash/],
    ['callback_url', { cron: '@daily', callback_url: 'https://example.org' }, /no callbacks/],
    ['time_zone', { cron: '@daily', time_zone: 'UTC' }, /no member "time_zone". Known: cron, /],
    ['delay_ms', { cron: '@daily', delay_ms: 5 }, /no member "delay_ms"/],
  ])('is refused with the field %s where it is %j', (field, members, message) => {
    expect(() => read(members)).toThrow(
      expect.objectContaining({
        code: 'invalid_schedule',
        extras: { field },
        message: expect.stringMatching(message) as string,
      }),
    );
  });

  it('leaves to its function what it does not say of its calls', () => {
    const defaults = { max_attempts: 7, backoff_ms: 9, callback_url: 'https://example.org' };
    const { retry, callbackUrl } = read({ cron: '@daily', backoff_ms: 1, callback_url: null }, { defaults });
    expect(retry).toMatchObject({ maxAttempts: 7, backoffMs: 1 });
    expect(callbackUrl).toBeNull();
  });

  it('has a payload of 32 KiB, or what the installation takes', () => {
    expect(read({ cron: '@daily', payload: 'x'.repeat(32_768) }).payloadBytes).toBe(32_768);
    const tooLarge = { code: 'payload_too_large', extras: { field: 'payload', limit_bytes: 32_768 } };
    expect(() => read({ cron: '@daily', payload: 'x'.repeat(32_769) })).toThrow(expect.objectContaining(tooLarge));
    expect(() => read({ cron: '@daily', payload: 'xx' }, { payloadBytes: 1 })).toThrow(
      expect.objectContaining({ code: 'payload_too_large' }),
    );
  });

  it('has a name that may stand in a path', () => {
    for (const name of ['a', 'nightly', 'at-3', '0'.repeat(63)]) expect(() => checkName(name)).not.toThrow();
    for (const name of ['', 'A', '-a', 'a-', 'a.b', '0'.repeat(64), 'ä']) {
      expect(() => checkName(name)).toThrow(expect.objectContaining({ code: 'invalid_schedule' }));
    }
  });
});
