import { Metrics } from '#libs/observability/metrics.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import type { Observed } from '#libs/orchestrator/workload.js';
import { describe, expect, it } from 'vitest';
import { MeasuredOrchestrator } from './measured.orchestrator.js';

const OBSERVED = { replicas: 1 } as unknown as Observed;

/** An engine whose every method answers what it was called with. */
function measured(overrides: object = {}) {
  const own: Record<string, unknown> = { engine: 'fake', capabilities: { largestCodeBytes: 7 }, ...overrides };
  const answering = new Proxy(own, {
    get: (_own, name: string) => own[name] ?? ((...given: unknown[]) => ({ name, given })),
  });
  const metrics = new Metrics();
  const orchestrator = new MeasuredOrchestrator(answering as unknown as Orchestrator, metrics);
  const counts = async () =>
    [...(await metrics.text()).matchAll(/^faas_engine_call_duration_seconds_count\{(.*)\} (\d+)$/gm)].map(
      ([, labels, count]) => `${labels} ${count}`,
    );
  return { orchestrator, counts };
}

describe('MeasuredOrchestrator', () => {
  it('hands every question of the port on, and the answer back', async () => {
    const { orchestrator } = measured();
    expect([orchestrator.engine, orchestrator.capabilities.largestCodeBytes]).toEqual(['fake', 7]);
    const inherited = Object.getOwnPropertyNames(Orchestrator.prototype);
    const names = new Set([...inherited, 'ensure', 'remove', 'list', 'watch', 'logs', 'ping']);
    names.delete('constructor');
    expect(names.size).toBeGreaterThanOrEqual(9);
    for (const name of names) {
      const method = (orchestrator as unknown as Record<string, (...given: unknown[]) => unknown>)[name]!;
      const asked =
        method.length === 0 ? [] : Array.from({ length: method.length }, () => new AbortController().signal);
      expect(await method.apply(orchestrator, asked), name).toEqual({ name, given: asked });
    }
  });

  it('counts calls that succeeded, failed and were aborted apart', async () => {
    const given = new AbortController();
    let fails = false;
    const { orchestrator, counts } = measured({
      ensure: () => (fails ? Promise.reject(new Error('engine away')) : Promise.resolve(OBSERVED)),
    });
    const ensure = (signal: AbortSignal) => orchestrator.ensure({} as never, signal);
    expect(await ensure(given.signal)).toBe(OBSERVED);
    fails = true;
    await expect(ensure(given.signal)).rejects.toThrow('engine away');
    await expect(ensure(AbortSignal.abort(new DOMException('late', 'TimeoutError')))).rejects.toThrow('engine away');
    given.abort();
    await expect(ensure(given.signal)).rejects.toThrow('engine away');
    expect((await counts()).toSorted()).toEqual([
      'operation="ensure",outcome="aborted" 1',
      'operation="ensure",outcome="failed" 2',
      'operation="ensure",outcome="ok" 1',
    ]);
  });
});
