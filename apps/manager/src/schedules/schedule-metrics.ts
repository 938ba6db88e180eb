import { Metrics } from '#libs/observability/metrics.js';
import { Injectable } from '@nestjs/common';
import { Counter, Gauge, Histogram } from 'prom-client';
import { CallMetrics } from '../gateway/call-metrics.js';
import { InvocationMetrics } from '../invocations/invocation-metrics.js';
import { type Fired, ScheduleRepository } from './schedule.repository.js';

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3_600];

/** Times of schedules as they come. */
@Injectable()
export class ScheduleMetrics {
  private readonly firings: Counter<'function' | 'outcome'>;
  private readonly lag: Histogram;
  private readonly schedules: Gauge<'state'>;

  constructor(
    private readonly repository: ScheduleRepository,
    private readonly callMetrics: CallMetrics,
    private readonly invocationMetrics: InvocationMetrics,
    metrics: Metrics,
  ) {
    const registers = [metrics.registry];
    this.firings = new Counter({
      name: 'faas_schedule_firings_total',
      help: 'Times of schedules, by outcome: fired, or why no call was made: overlap, late, queue_full.',
      labelNames: ['function', 'outcome'],
      registers,
    });
    this.lag = new Histogram({
      name: 'faas_schedule_lag_seconds',
      help: 'From the moment a schedule was due to the moment its call was made.',
      buckets: SECONDS,
      registers,
    });
    this.schedules = new Gauge({
      name: 'faas_schedules',
      help: 'Schedules of the whole installation by state: active, paused, resting, disabled.',
      labelNames: ['state'],
      registers,
      aggregator: 'max',
    });
    metrics.beforeReading(() => this.measure());
  }

  fired({ functionId, call, missed }: Fired): void {
    const label = this.callMetrics.labelOf(functionId);
    for (const { reason, count } of missed) this.firings.inc({ function: label, outcome: reason }, count);
    if (call === undefined) return;
    this.firings.inc({ function: label, outcome: 'fired' });
    this.lag.observe(call.lagMs / 1_000);
    this.invocationMetrics.accepted(functionId);
  }

  /** Without the database there are no values, rather than old ones. */
  private async measure(): Promise<void> {
    const counts = await this.repository.counts().catch(() => undefined);
    this.schedules.reset();
    for (const [state, count] of Object.entries(counts ?? {})) this.schedules.set({ state }, count);
  }
}
