import { Global, Injectable, Module } from '@nestjs/common';
import { collectDefaultMetrics, Histogram, Registry } from 'prom-client';
import { countedFamily, type Snapshot } from './snapshot.js';
import { type HistogramFamily, writeHistogram } from './histogram-series.js';

/** What has to be asked for is asked for at most this often, however many read. */
const REFRESH_MS = 5_000;
/** A reading waits this long at most for what has to be asked for, and does without it then. */
const PATIENCE_MS = 2_000;

let ofProcess: Registry | undefined;

/** What one manager counts and measures. Each feature registers its own instruments here. */
@Injectable()
export class Metrics {
  readonly registry = new Registry();
  readonly contentType = this.registry.contentType;
  private readonly histograms: HistogramFamily[] = [];
  private readonly refreshers: (() => Promise<void>)[] = [];
  private refreshing: Promise<unknown> = Promise.resolve();
  private refreshedAt = -Infinity;

  addHistogram(family: HistogramFamily): void {
    this.histograms.push(family);
  }

  /** Runs before the next reading, and every few seconds at most. What it throws is its own affair. */
  beforeReading(refresh: () => Promise<void>): void {
    this.refreshers.push(refresh);
  }

  /** All of it, and the process's own, in Prometheus's text format. */
  async text(): Promise<string> {
    await this.refreshed();
    const [ours, ofTheProcess] = await Promise.all([this.registry.metrics(), processMetrics().metrics()]);
    return [ours, ...this.histograms.map(writeHistogram), ofTheProcess].join('\n');
  }

  /** The same as values, for whoever adds up those of several processes. */
  async snapshot(): Promise<Snapshot> {
    await this.refreshed();
    const ours = await Promise.all([this.registry.getMetricsAsJSON(), processMetrics().getMetricsAsJSON()]);
    return { metrics: ours.flat(), histograms: this.histograms.map(countedFamily) };
  }

  private async refreshed(): Promise<void> {
    const now = performance.now();
    if (now - this.refreshedAt >= REFRESH_MS) {
      this.refreshedAt = now;
      this.refreshing = Promise.allSettled(this.refreshers.map((refresh) => refresh()));
    }
    await settledWithin(this.refreshing, PATIENCE_MS);
  }
}

/** Memory, processor, event loop and garbage collection belong to the process, however many managers are in it. */
function processMetrics(): Registry {
  if (ofProcess === undefined) {
    ofProcess = new Registry();
    collectDefaultMetrics({ register: ofProcess });
  }
  return ofProcess;
}

async function settledWithin(work: Promise<unknown>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, ms)));
  await Promise.race([work, late]);
  clearTimeout(timer);
}

const SECONDS = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** `take` and `specialise` are parts of a start that calls wait for in `queue`; the others are of one call itself. */
export type ColdStartStage = 'queue' | 'take' | 'specialise' | 'connect' | 'first_byte';

/** Where cold starts spend their time. Calls tell one half of it, the engine's pool the other. */
@Injectable()
export class ColdStartMetrics {
  private readonly duration: Histogram<'stage'>;

  constructor({ registry }: Metrics) {
    this.duration = new Histogram({
      name: 'faas_cold_start_duration_seconds',
      help: 'Where cold starts spend their time: calls wait for a replica (queue), connect to it and wait for its first byte; it is taken from the pool and given its function (specialise) meanwhile.',
      labelNames: ['stage'],
      buckets: SECONDS,
      registers: [registry],
    });
  }

  observe(stage: ColdStartStage, ms: number): void {
    this.duration.observe({ stage }, ms / 1_000);
  }
}

@Global()
@Module({ providers: [ColdStartMetrics, Metrics], exports: [ColdStartMetrics, Metrics] })
export class MetricsModule {}
