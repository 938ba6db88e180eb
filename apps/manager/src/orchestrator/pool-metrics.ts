import type { ColdStartMetrics } from '#libs/observability/metrics.js';
import type { Metrics } from '#libs/observability/metrics.js';
import type { PoolCounts, PoolReport } from '#libs/orchestrator/orchestrator.js';
import { Counter, Gauge } from 'prom-client';

const NONE: PoolCounts = { ready: 0, target: 0, hits: 0, misses: 0 };

/** Exposes the metrics of an engine's warm pool. Without a pool all are zero. */
export function measurePool(pool: PoolReport | undefined, { registry }: Metrics, stages: ColdStartMetrics): void {
  const registers = [registry];
  const counts = () => pool?.counts() ?? NONE;
  const gauge = (name: string, help: string, of: (now: PoolCounts) => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(of(counts()));
      },
    });
  gauge('faas_pool_ready', 'Workers of this manager that wait for a function.', ({ ready }) => ready);
  gauge('faas_pool_target', 'How many there shall be, by configuration, demand and memory.', ({ target }) => target);
  const takes = new Counter({
    name: 'faas_pool_takes_total',
    help: 'Workers that were asked for: hit, there was one; miss, there was none and one was started cold.',
    labelNames: ['outcome'],
    registers,
    collect() {
      const { hits, misses } = counts();
      takes.reset();
      takes.inc({ outcome: 'hit' }, hits);
      takes.inc({ outcome: 'miss' }, misses);
    },
  });
  pool?.onStage((stage, ms) => stages.observe(stage, ms));
}
