import { Metrics } from '#libs/observability/metrics.js';
import { Injectable } from '@nestjs/common';
import { Gauge } from 'prom-client';
import { CallMetrics } from './call-metrics.js';
import { functionOf, Router } from './router.js';
import type { SlotPool } from './slot-pool.js';

/** How many calls there are at this moment, read from the slots at each scrape. */
@Injectable()
export class LoadGauges {
  constructor(router: Router, calls: CallMetrics, { registry }: Metrics) {
    const gauge = (name: string, help: string, of: (pool: SlotPool) => number) =>
      new Gauge({
        name,
        help,
        labelNames: ['function'],
        registers: [registry],
        collect() {
          this.reset();
          for (const route of router.known()) {
            this.inc({ function: calls.labelOf(functionOf(route)) }, of(route.pool));
          }
        },
      });
    gauge('faas_calls_in_flight', 'Calls that workers run.', (pool) => pool.inFlight);
    gauge('faas_calls_waiting', 'Calls that wait for a slot.', (pool) => pool.waiting);
  }
}
