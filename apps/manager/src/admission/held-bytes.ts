import type { LimitsConfig } from '#libs/config/config.js';
import { LIMITS_CONFIG } from '#libs/config/config.module.js';
import { Metrics } from '#libs/observability/metrics.js';
import { Inject, Injectable } from '@nestjs/common';
import { Gauge } from 'prom-client';
import { ManagerOverloaded } from './errors.js';

/** What a request costs beside its body: its socket's buffers, and the objects that stand for it. */
const REQUEST_BYTES = 16 * 1024;

/**
 * What the requests under way keep in memory, bounded. Bytes count as they arrive: those that a request merely
 * announces would let a few slow clients keep everybody else out.
 */
@Injectable()
export class HeldBytes {
  private held = 0;
  private readonly limit: number;

  constructor(@Inject(LIMITS_CONFIG) { heldBytes }: Pick<LimitsConfig, 'heldBytes'>, { registry }: Metrics) {
    this.limit = heldBytes;
    const gauge = (name: string, help: string, value: () => number) =>
      new Gauge({
        name,
        help,
        registers: [registry],
        collect() {
          this.set(value());
        },
      });
    gauge('faas_held_bytes', 'Bytes of requests kept in memory.', () => this.held);
    gauge('faas_held_bytes_limit', 'Most bytes of requests kept in memory.', () => heldBytes);
  }

  /** Room for one more request until it is disposed of. Throws {@link ManagerOverloaded} when there is none. */
  hold(): Holding {
    const holding = new Holding(this);
    holding.add(REQUEST_BYTES);
    return holding;
  }

  take(bytes: number): void {
    if (this.held + bytes > this.limit) throw new ManagerOverloaded(this.limit);
    this.held += bytes;
  }

  give(bytes: number): void {
    this.held -= bytes;
  }
}

/** What one request keeps in memory. */
export class Holding implements Disposable {
  private held = 0;

  constructor(private readonly all: HeldBytes) {}

  /** Throws {@link ManagerOverloaded} when there is no room for so many more bytes. */
  add(bytes: number): void {
    this.all.take(bytes);
    this.held += bytes;
  }

  [Symbol.dispose](): void {
    this.all.give(this.held);
    this.held = 0;
  }
}
