import { constants, type PerformanceEntry, PerformanceObserver } from 'node:perf_hooks';
import { expect, it, vi } from 'vitest';
import { notePassed } from './passed-bytes.js';

it('what large streams leave behind is collected before there is much of it', async () => {
  const collected: number[] = [];
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries() as (PerformanceEntry & { detail: { kind: number } })[])
      collected.push(entry.detail.kind);
  });
  observer.observe({ entryTypes: ['gc'] });
  for (let pieces = 0; pieces < 1_024; pieces += 1) notePassed(64 * 1024);
  await vi.waitFor(() => {
    const minor = collected.filter((kind) => kind === constants.NODE_PERFORMANCE_GC_MINOR);
    expect(minor.length).toBeGreaterThanOrEqual(4);
  });
  observer.disconnect();
});
