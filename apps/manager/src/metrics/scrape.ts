import { Metrics } from '#libs/observability/metrics.js';
import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import cluster from 'node:cluster';
import { Gauge } from 'prom-client';
import type { ToPrimary, ToProcess } from '../cluster/messages.js';

/** Longer than the primary waits for the slowest process. */
const PATIENCE_MS = 8_000;

/** What is answered to Prometheus: this process's own numbers, or those of all that share its address. */
@Injectable()
export class Scrape implements OnApplicationShutdown {
  private readonly waiting = new Map<number, (text: string) => void>();
  private tickets = 0;

  constructor(private readonly metrics: Metrics) {
    new Gauge({
      name: 'faas_manager_processes',
      help: 'Processes of this manager that answered.',
      registers: [metrics.registry],
    }).set(1);
    if (cluster.isWorker) process.on('message', this.heard);
  }

  text(): Promise<string> {
    return cluster.isWorker ? this.ofAll() : this.metrics.text();
  }

  onApplicationShutdown(): void {
    process.off('message', this.heard);
  }

  private ofAll(): Promise<string> {
    const ticket = (this.tickets += 1);
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    // Its own numbers alone would look as if everything had begun anew.
    const late = setTimeout(() => reject(new Error('The primary did not answer.')), PATIENCE_MS);
    this.waiting.set(ticket, resolve);
    tell({ kind: 'scrape', ticket });
    return promise.finally(() => {
      clearTimeout(late);
      this.waiting.delete(ticket);
    });
  }

  private readonly heard = (message: ToProcess): void => {
    const { kind, ticket } = message;
    if (kind === 'scraped') this.waiting.get(ticket)?.(message.text);
    else void this.metrics.snapshot().then((snapshot) => tell({ kind: 'snapshot', ticket, snapshot }));
  };
}

function tell(message: ToPrimary): void {
  // A primary that is gone hears nothing; this process is leaving then.
  if (process.connected) process.send?.(message, undefined, {}, () => undefined);
}
