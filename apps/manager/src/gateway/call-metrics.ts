import type { MetricsConfig } from '#libs/config/config.js';
import { METRICS_CONFIG } from '#libs/config/config.module.js';
import { ColdStartMetrics, Metrics } from '#libs/observability/metrics.js';
import { HistogramSeries } from '#libs/observability/histogram-series.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { Counter } from 'prom-client';
import { FunctionRepository } from '../functions/function.repository.js';
import type { CallKind } from './call-ends.js';
import type { CallTiming } from './call-timing.js';

/** Upper ends of the buckets, in seconds. */
const CALL_SECONDS = [0.002, 0.005, 0.01, 0.025, 0.1, 0.25, 1, 2.5, 10, 60];
const OVERHEAD_SECONDS = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1];
const OTHER = 'other';
/** The label of all runs together: each has a function of its own, which is gone before anybody could look at it. */
const RUN = 'run';
/** When there are more functions than labels, those that weren't called for this long lose theirs. */
const UNUSED_MS = 60 * 60_000;
/** Removed functions are forgotten this often, even if nobody reads the metrics. */
const PRUNE_MS = 60_000;

interface Divided {
  readonly revision: number;
  readonly code: string;
  calls: number;
}
/** Of one function. */
const MOST_DIVIDED = 200;

/** What is counted of one function's calls. */
class CallSeries {
  readonly durations = new HistogramSeries(CALL_SECONDS);
  readonly outcomes = new Map<string, number>();
  /** By revision and code, where the traffic is divided. */
  readonly divided = new Map<string, Divided>();
  coldStarts = 0;
  usedAt = 0;

  countDivided(revision: number, code: string): void {
    const key = `${revision} ${code}`;
    const known = this.divided.get(key);
    if (known !== undefined) known.calls += 1;
    else if (this.divided.size < MOST_DIVIDED) this.divided.set(key, { revision, code, calls: 1 });
  }
}

/** Counts calls. It is on the path of every call, so it only adds numbers. */
@Injectable()
export class CallMetrics implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly series = new Map<FunctionId, CallSeries>();
  private readonly others = new CallSeries();
  private readonly runs = new CallSeries();
  /** Calls that never reached a function: they were refused before, or there is no such function. */
  private readonly unrouted = new CallSeries();
  private readonly overhead = new HistogramSeries(OVERHEAD_SECONDS);
  private timer: NodeJS.Timeout | undefined;

  constructor(
    @Inject(METRICS_CONFIG) private readonly config: Pick<MetricsConfig, 'maxFunctions'>,
    private readonly repository: FunctionRepository,
    metrics: Metrics,
    private readonly coldStartMetrics: ColdStartMetrics,
  ) {
    this.register(metrics);
    metrics.beforeReading(() => this.prune(performance.now()));
  }

  onApplicationBootstrap(): void {
    // Without the database the next time will do.
    this.timer = setInterval(() => void this.prune(performance.now()).catch(() => undefined), PRUNE_MS).unref();
  }

  onApplicationShutdown(): void {
    clearInterval(this.timer);
  }

  /** Counts a call by its outcome: `ok`, or the code of a problem. */
  ended(code: string, timing: CallTiming, now: number, kind: CallKind): void {
    const { functionId, isAnswered, isCold } = timing;
    const series = kind === 'run' ? this.runs : functionId === undefined ? this.unrouted : this.seriesOf(functionId);
    series.usedAt = now;
    series.outcomes.set(code, (series.outcomes.get(code) ?? 0) + 1);
    if (timing.dividedTo !== undefined && functionId !== undefined) series.countDivided(timing.dividedTo, code);
    if (!timing.isWebSocket) series.durations.observe((now - timing.startedAt) / 1_000);
    if (isAnswered) this.overhead.observe(timing.overheadMs(now) / 1_000);
    if (!isCold) return;
    series.coldStarts += 1;
    if (isAnswered) this.observeColdStart(timing, now);
  }

  /** The value of the label `function`. */
  labelOf(id: FunctionId, isRun = false): string {
    if (isRun) return RUN;
    return this.seriesOf(id) === this.others ? OTHER : id;
  }

  private observeColdStart(timing: CallTiming, now: number): void {
    const { sentAt, requestedAt, firstByteAt } = timing;
    this.coldStartMetrics.observe('queue', timing.queueMs(now));
    this.coldStartMetrics.observe('connect', requestedAt - sentAt);
    this.coldStartMetrics.observe('first_byte', firstByteAt - requestedAt);
  }

  private seriesOf(id: FunctionId): CallSeries {
    const known = this.series.get(id);
    if (known !== undefined) return known;
    if (this.series.size >= this.config.maxFunctions) return this.others;
    const series = new CallSeries();
    series.usedAt = performance.now();
    this.series.set(id, series);
    return series;
  }

  /** Removes the labels of functions that don't exist any more. */
  private async prune(now: number): Promise<void> {
    if (this.series.size === 0) return;
    const known = [...this.series.keys()];
    const existing = new Set(await this.repository.existing(known));
    const isFull = this.series.size >= this.config.maxFunctions;
    for (const id of known) {
      const isUnused = now - (this.series.get(id)?.usedAt ?? 0) > UNUSED_MS;
      if (!existing.has(id) || (isFull && isUnused)) this.series.delete(id);
    }
  }

  private register(metrics: Metrics): void {
    const { labelled, overhead } = this;
    const counter = (name: string, help: string, labelNames: string[], count: (counter: Counter) => void) =>
      new Counter({
        name,
        help,
        labelNames,
        registers: [metrics.registry],
        collect() {
          this.reset();
          count(this);
        },
      });
    const codes = 'Calls by function and by code: ok, or the code of the problem they were answered with.';
    counter('faas_calls_total', codes, ['function', 'code'], (calls) => {
      for (const [id, { outcomes }] of labelled())
        for (const [code, count] of outcomes) calls.inc({ function: id, code }, count);
    });
    const byRevision = 'Calls of functions whose traffic is divided, by revision and code.';
    counter('faas_revision_calls_total', byRevision, ['function', 'revision', 'code'], (counted) => {
      for (const [id, { divided }] of labelled())
        for (const { revision, code, calls } of divided.values()) counted.inc({ function: id, revision, code }, calls);
    });
    counter('faas_cold_starts_total', 'Calls that found no replica of their function.', ['function'], (starts) => {
      for (const [id, { coldStarts }] of labelled()) starts.inc({ function: id }, coldStarts);
    });
    metrics.addHistogram({
      name: 'faas_call_duration_seconds',
      help: 'From the head of a call to its answer.',
      series: () => labelled().map(([id, { durations }]) => ({ labels: { function: id }, histogram: durations })),
    });
    metrics.addHistogram({
      name: 'faas_call_overhead_seconds',
      help: "The manager's own part of that: without receiving the body, waiting for a slot, and the worker.",
      series: () => [{ labels: {}, histogram: overhead }],
    });
  }

  private readonly labelled = (): [string, CallSeries][] => {
    const shared: [string, CallSeries][] = [
      [OTHER, this.others],
      [RUN, this.runs],
    ];
    return [...this.series, ...shared.filter(([, { outcomes }]) => outcomes.size > 0), ['', this.unrouted]];
  };
}
