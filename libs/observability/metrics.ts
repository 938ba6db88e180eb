import { Injectable } from '@nestjs/common';
import { collectDefaultMetrics, Registry } from 'prom-client';
import { countedFamily, type Snapshot } from './snapshot.js';
import { type TallyFamily, writeTallies } from './tally.js';

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
  private readonly tallies: TallyFamily[] = [];
  private readonly refreshers: (() => Promise<void>)[] = [];
  private refreshing: Promise<unknown> = Promise.resolve();
  private refreshedAt = -Infinity;

  addTallies(family: TallyFamily): void {
    this.tallies.push(family);
  }

  /** Runs before the next reading, and every few seconds at most. What it throws is its own affair. */
  beforeReading(refresh: () => Promise<void>): void {
    this.refreshers.push(refresh);
  }

  /** All of it, and the process's own, in Prometheus's text format. */
  async text(): Promise<string> {
    await this.refreshed();
    const [ours, ofTheProcess] = await Promise.all([this.registry.metrics(), processMetrics().metrics()]);
    return [ours, ...this.tallies.map(writeTallies), ofTheProcess].join('\n');
  }

  /** The same as values, for whoever adds up those of several processes. */
  async snapshot(): Promise<Snapshot> {
    await this.refreshed();
    const ours = await Promise.all([this.registry.getMetricsAsJSON(), processMetrics().getMetricsAsJSON()]);
    return { metrics: ours.flat(), tallies: this.tallies.map(countedFamily) };
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
