import { ColdStartMetrics } from '#libs/observability/metrics.js';
import { Metrics } from '#libs/observability/metrics.js';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { FunctionRepository } from '../functions/function.repository.js';
import type { CallKind } from './call-ends.js';
import { CallMetrics } from './call-metrics.js';
import { CallTiming } from './call-timing.js';

const HOUR_MS = 60 * 60_000;

/** Counts the calls of an installation of which `present` are the functions. */
function countingWith(maxFunctions: number, present: Set<string>) {
  const metrics = new Metrics();
  const existing = (ids: readonly string[]) => Promise.resolve(ids.filter((id) => present.has(id)));
  const calls = new CallMetrics(
    { maxFunctions },
    { existing } as unknown as FunctionRepository,
    metrics,
    new ColdStartMetrics(metrics),
  );
  return {
    call: (functionId: string | undefined, code = 'ok', kind: CallKind = 'execute') => {
      present.add(functionId ?? '');
      calls.ended(code, Object.assign(new CallTiming(), { functionId }), performance.now(), kind);
    },
    counts: async () =>
      Object.fromEntries(
        [...(await metrics.text()).matchAll(/^faas_calls_total\{function="(.*)",code="(.*)"\} (\d+)$/gm)].map(
          ([, id, code, count]) => [`${id} ${code}`, Number(count)],
        ),
      ),
    labelOf: (id: string) => calls.labelOf(id),
    start: () => calls.onApplicationBootstrap(),
    stop: () => calls.onApplicationShutdown(),
  };
}

describe('CallMetrics', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('counts by function and code', async () => {
    const { call, counts } = countingWith(10, new Set());
    for (const code of ['ok', 'handler_error', 'ok']) call('a', code);
    call('b');
    call(undefined, 'function_not_found');
    expect(await counts()).toEqual({ 'a ok': 2, 'a handler_error': 1, 'b ok': 1, ' function_not_found': 1 });
  });

  it('counts functions beyond the limit together', async () => {
    const { call, counts, labelOf } = countingWith(2, new Set());
    for (const id of ['a', 'b', 'c', 'd', 'a']) call(id);
    expect(await counts()).toEqual({ 'a ok': 2, 'b ok': 1, 'other ok': 2 });
    expect(['a', 'd', 'never called'].map(labelOf)).toEqual(['a', 'other', 'other']);
  });

  it('counts runs together, whatever limit there is, and never forgets them', async () => {
    const present = new Set<string>();
    const { call, counts, labelOf } = countingWith(1, present);
    for (const id of ['a', 'b', undefined]) call(id, 'handler_error', 'run');
    call('c');
    present.clear();
    const runs = { 'run handler_error': 3 };
    expect(await counts()).toEqual(runs);
    vi.advanceTimersByTime(HOUR_MS + 1);
    call('d', 'ok', 'run');
    expect(await counts()).toEqual({ ...runs, 'run ok': 1 });
    expect(labelOf('e')).toBe('e');
  });

  it('forgets functions that are gone though nobody reads, for as long as it runs', async () => {
    const present = new Set<string>();
    const { call, labelOf, start, stop } = countingWith(1, present);
    start();
    call('a');
    present.delete('a');
    await vi.advanceTimersByTimeAsync(60_000);
    expect(labelOf('b')).toBe('b');
    stop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(labelOf('c')).toBe('other');
  });

  it('forgets functions that are gone, and so has room for others', async () => {
    const present = new Set<string>();
    const { call, counts } = countingWith(2, present);
    call('a');
    call('b');
    present.delete('a');
    expect(await counts()).toEqual({ 'b ok': 1 });
    call('c');
    expect(await counts()).toEqual({ 'b ok': 1, 'c ok': 1 });
  });

  it('takes labels from functions that nobody has called for an hour, when others need them', async () => {
    const { call, counts } = countingWith(2, new Set());
    call('a');
    vi.advanceTimersByTime(HOUR_MS + 1);
    expect(await counts()).toEqual({ 'a ok': 1 });
    call('b');
    vi.advanceTimersByTime(10_000);
    expect(await counts()).toEqual({ 'b ok': 1 });
  });

  it('goes on counting when the database can’t say which functions there are', async () => {
    const metrics = new Metrics();
    const repository = { existing: () => Promise.reject(new Error('away')) };
    const stages = new ColdStartMetrics(metrics);
    const calls = new CallMetrics({ maxFunctions: 2 }, repository as unknown as FunctionRepository, metrics, stages);
    calls.ended('ok', Object.assign(new CallTiming(), { functionId: 'a' }), performance.now(), 'execute');
    expect(await metrics.text()).toContain('faas_calls_total{function="a",code="ok"} 1');
  });
});
