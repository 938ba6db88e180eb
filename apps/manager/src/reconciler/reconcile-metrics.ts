import { Metrics } from '#libs/observability/metrics.js';
import { Injectable } from '@nestjs/common';
import { Counter, Histogram } from 'prom-client';

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

@Injectable()
export class ReconcileMetrics {
  readonly lag: Histogram;
  readonly duration: Histogram<'verb'>;
  readonly failures: Counter<'code'>;

  constructor({ registry }: Metrics) {
    const registers = [registry];
    this.lag = new Histogram({
      name: 'faas_reconcile_lag_seconds',
      help: 'From the moment a step was due to the moment a manager took it up.',
      buckets: SECONDS,
      registers,
    });
    this.duration = new Histogram({
      name: 'faas_reconcile_duration_seconds',
      help: 'How long a step took.',
      labelNames: ['verb'],
      buckets: SECONDS,
      registers,
    });
    this.failures = new Counter({
      name: 'faas_reconcile_failures_total',
      help: 'Steps that could not be made or not be recorded, and are made again.',
      labelNames: ['code'],
      registers,
    });
  }
}
