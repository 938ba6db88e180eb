import { Metrics } from '#libs/observability/metrics.js';
import { Injectable } from '@nestjs/common';
import { Gauge } from 'prom-client';
import { PHASES } from '../functions/function.entity.js';
import { FunctionRepository } from '../functions/function.repository.js';

/** How many functions and replicas there are, in the whole installation. */
@Injectable()
export class FunctionGauges {
  private readonly functions: Gauge<'phase'>;
  private readonly wanted: Gauge<'phase'>;
  private readonly ready: Gauge<'phase'>;

  constructor(
    private readonly repository: FunctionRepository,
    metrics: Metrics,
  ) {
    const gauge = (name: string, help: string) =>
      new Gauge({ name, help, labelNames: ['phase'], registers: [metrics.registry], aggregator: 'max' });
    this.functions = gauge('faas_functions', 'Functions by phase.');
    this.wanted = gauge('faas_replicas_wanted', 'Replicas there should be, by phase of their function.');
    this.ready = gauge('faas_replicas_ready', 'Replicas that take calls, by phase of their function.');
    metrics.beforeReading(() => this.count());
  }

  /** Without the database there are no values, rather than old ones. */
  private async count(): Promise<void> {
    const counts = await this.repository.countsByPhase().catch(() => undefined);
    for (const gauge of [this.functions, this.wanted, this.ready]) gauge.reset();
    if (counts === undefined) return;
    for (const phase of PHASES) {
      const count = counts.find((one) => one.phase === phase);
      this.functions.set({ phase }, count?.functions ?? 0);
      this.wanted.set({ phase }, count?.replicasWanted ?? 0);
      this.ready.set({ phase }, count?.replicasReady ?? 0);
    }
  }
}
