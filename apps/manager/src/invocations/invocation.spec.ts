import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nextOf, RETRYABLE, type RetryPolicy } from './invocation.js';

const ALL: RetryPolicy = { maxAttempts: 3, on: RETRYABLE, backoffMs: 1_000 };
const MOST_MS = 60_000;
const FIRST = { retry: ALL, attempt: 1, postponed: 0 };

describe('what becomes of a call whose attempt has failed', () => {
  it.each([
    ['handler_error', 'error'],
    ['handler_result_invalid', 'error'],
    ['handler_timeout', 'timeout'],
    ['worker_crashed', 'crash'],
  ] as const)('is tried again after %s where it may be, as often as it may be', (code, kind) => {
    const counts = { status: 'waiting', inMs: 500, counts: true };
    expect(nextOf(code, FIRST, MOST_MS, 0.5)).toEqual(counts);
    expect(nextOf(code, { ...FIRST, retry: { ...ALL, on: [kind] } }, MOST_MS, 0.5)).toEqual(counts);
    const others = RETRYABLE.filter((one) => one !== kind);
    expect(nextOf(code, { ...FIRST, retry: { ...ALL, on: others } }, MOST_MS, 0.5)).toEqual({ status: 'dead' });
    expect(nextOf(code, { ...FIRST, attempt: 2 }, MOST_MS, 0.5)).toMatchObject({ status: 'waiting', inMs: 1_000 });
    expect(nextOf(code, { ...FIRST, attempt: 3 }, MOST_MS, 0.5)).toEqual({ status: 'dead' });
  });

  it('has lost an attempt where its handler answered what can’t be sent', () => {
    const once = { retry: { ...ALL, maxAttempts: 1 }, attempt: 1, postponed: 0 };
    expect(nextOf('handler_response_invalid', once, MOST_MS, 0.5)).toEqual({ status: 'dead' });
  });

  it.each([
    'function_not_found',
    'revision_without_traffic',
    'invalid_payload',
    'payload_too_large',
    'http_unsupported',
  ])('is dead after %s, which no time heals', (code) =>
    expect(nextOf(code, FIRST, MOST_MS, 0.5)).toEqual({ status: 'dead' }),
  );

  it.each([
    'function_overloaded',
    'function_not_ready',
    'function_not_runnable',
    'function_disabled',
    'orchestrator_unavailable',
    'database_unavailable',
    'manager_overloaded',
    'internal_error',
  ])('waits without losing an attempt after %s', (code) => {
    const last = { retry: { ...ALL, on: [] }, attempt: 3, postponed: 40 };
    expect(nextOf(code, last, MOST_MS, 0.5)).toEqual({ status: 'waiting', inMs: 15_000, counts: false });
  });

  it('pauses for any time up to an end that doubles, and never for longer than it may', () => {
    const attempts = fc.integer({ min: 1, max: 99 });
    const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    fc.assert(
      fc.property(attempts, fc.integer({ min: 0, max: 2 ** 31 }), random, (attempt, backoffMs, drawn) => {
        const call = { retry: { ...ALL, maxAttempts: 100, backoffMs }, attempt, postponed: 0 };
        const next = nextOf('handler_error', call, MOST_MS, drawn);
        const inMs = next.status === 'waiting' ? next.inMs : NaN;
        const end = Math.min(MOST_MS, backoffMs * 2 ** (attempt - 1));
        expect(inMs).toBeGreaterThanOrEqual(0);
        expect(inMs).toBeLessThanOrEqual(end);
        expect(inMs).toBeGreaterThanOrEqual(Math.floor(end * drawn) - 1);
      }),
    );
  });
});
