import { Metrics } from '#libs/observability/metrics.js';
import { Injectable } from '@nestjs/common';
import { Gauge } from 'prom-client';
import { CallMetrics } from './call-metrics.js';
import { functionOf, type Route, Router } from './router.js';

/** How many calls there are at this moment, read from the slots at each scrape. */
@Injectable()
export class LoadGauges {
  constructor(router: Router, calls: CallMetrics, { registry }: Metrics) {
    const gauge = (name: string, help: string, of: (route: Route) => number) =>
      new Gauge({
        name,
        help,
        labelNames: ['function'],
        registers: [registry],
        collect() {
          this.reset();
          for (const route of router.known()) {
            this.inc({ function: calls.labelOf(functionOf(route), route.isRun) }, of(route));
          }
        },
      });
    gauge('faas_calls_in_flight', 'Calls that workers run.', ({ pool }) => pool.inFlight);
    gauge('faas_calls_waiting', 'Calls that wait for a slot.', ({ pool }) => pool.waiting);
    gauge('faas_streams_open', 'Answers to HTTP calls that have begun.', ({ streams }) => streams.answers);
    gauge('faas_websockets_open', 'WebSockets that are open.', ({ streams }) => streams.webSockets);
  }
}
