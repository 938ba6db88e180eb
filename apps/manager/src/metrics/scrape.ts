import { Metrics } from '#libs/observability/metrics.js';
import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import cluster from 'node:cluster';
import { Gauge } from 'prom-client';
import type { ToPrimary, ToProcess } from '../cluster/messages.js';

/** Longer than the primary waits for the slowest process. */
const ANSWER_MS = 8_000;

/** What Prometheus gets: the numbers of this process, or the sums of all processes that share its address. */
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
    if (cluster.isWorker) process.on('message', this.receive);
  }

  text(): Promise<string> {
    return cluster.isWorker ? this.ofAll() : this.metrics.text();
  }

  onApplicationShutdown(): void {
    process.off('message', this.receive);
  }

  private ofAll(): Promise<string> {
    const ticket = (this.tickets += 1);
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    // The numbers of this process alone would look like a restart.
    const late = setTimeout(() => reject(new Error('The primary did not answer.')), ANSWER_MS);
    this.waiting.set(ticket, resolve);
    send({ kind: 'scrape', ticket });
    return promise.finally(() => {
      clearTimeout(late);
      this.waiting.delete(ticket);
    });
  }

  private readonly receive = (message: ToProcess): void => {
    const { kind, ticket } = message;
    if (kind === 'scraped') this.waiting.get(ticket)?.(message.text);
    else void this.metrics.snapshot().then((snapshot) => send({ kind: 'snapshot', ticket, snapshot }));
  };
}

function send(message: ToPrimary): void {
  // Without a primary this process is shutting down.
  if (process.connected) process.send?.(message, undefined, {}, () => undefined);
}
