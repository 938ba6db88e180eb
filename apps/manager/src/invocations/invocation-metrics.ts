import type { MetricsConfig } from '#libs/config/config.js';
import { METRICS_CONFIG } from '#libs/config/config.module.js';
import { Metrics } from '#libs/observability/metrics.js';
import { Inject, Injectable } from '@nestjs/common';
import { Counter, Gauge } from 'prom-client';
import { CallMetrics } from '../gateway/call-metrics.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import type { CallbackStatus } from './invocation.js';
import { type Claimed, type Completion, InvocationRepository } from './invocation.repository.js';

/** What an attempt came to. */
type Outcome = 'succeeded' | 'failed' | 'postponed' | 'cancelled';

/** Calls for later as they come, run and wait. */
@Injectable()
export class InvocationMetrics {
  private readonly enqueued: Counter<'function'>;
  private readonly attempts: Counter<'function' | 'outcome'>;
  private readonly dead: Counter<'function'>;
  private readonly callbacks: Counter<'function' | 'outcome'>;
  private readonly calls: Gauge<'function'>;
  private readonly oldest: Gauge<'function'>;

  constructor(
    private readonly repository: InvocationRepository,
    private readonly callMetrics: CallMetrics,
    @Inject(METRICS_CONFIG) private readonly config: Pick<MetricsConfig, 'maxFunctions'>,
    metrics: Metrics,
  ) {
    const registers = [metrics.registry];
    const counter = <Label extends string>(name: string, help: string, ...labelNames: Label[]) =>
      new Counter({ name, help, labelNames, registers });
    const gauge = (name: string, help: string) =>
      new Gauge({ name, help, labelNames: ['function'], registers, aggregator: 'max' });
    this.enqueued = counter('faas_invocations_enqueued_total', 'Calls for later that were accepted.', 'function');
    this.attempts = counter(
      'faas_invocation_attempts_total',
      'Attempts of calls for later, by outcome: succeeded, failed, cancelled, or postponed where none could be made.',
      'function',
      'outcome',
    );
    this.dead = counter('faas_invocations_dead_total', 'Calls for later that have failed for good.', 'function');
    this.callbacks = counter(
      'faas_callbacks_total',
      'Attempts to tell of calls for later that have ended: delivered, failed for good, or waiting for another one.',
      'function',
      'outcome',
    );
    this.calls = gauge('faas_invocations_queued', 'Calls for later that wait or run, of the whole installation.');
    this.oldest = gauge('faas_invocations_oldest_seconds', 'For how long the oldest of those has been due.');
    metrics.beforeReading(() => this.measure());
  }

  accepted(id: FunctionId): void {
    this.enqueued.inc({ function: this.callMetrics.labelOf(id) });
  }

  ended({ functionId }: Claimed, completion: Completion): void {
    const label = this.callMetrics.labelOf(functionId);
    this.attempts.inc({ function: label, outcome: outcomeOf(completion) });
    if (completion.status === 'dead') this.dead.inc({ function: label });
  }

  calledBack(id: FunctionId, outcome: CallbackStatus): void {
    this.callbacks.inc({ function: this.callMetrics.labelOf(id), outcome });
  }

  /** Without the database there are no values, rather than old ones. */
  private async measure(): Promise<void> {
    const depths = await this.repository.depths(this.config.maxFunctions).catch(() => []);
    this.calls.reset();
    this.oldest.reset();
    for (const { functionId, calls, oldestMs } of depths) {
      this.calls.set({ function: functionId }, calls);
      this.oldest.set({ function: functionId }, Math.max(0, (oldestMs ?? 0) / 1_000));
    }
  }
}

function outcomeOf({ status, counts = true }: Completion): Outcome {
  if (status === 'succeeded' || status === 'cancelled') return status;
  return counts ? 'failed' : 'postponed';
}
