import { Injectable } from '@nestjs/common';
import { Histogram } from 'prom-client';
import { Metrics } from './metrics.js';

const SECONDS = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** `take` and `specialise` are parts of a start that calls wait for in `queue`; the others are of one call itself. */
export type ColdStage = 'queue' | 'take' | 'specialise' | 'connect' | 'first_byte';

/** Where cold starts spend their time. Calls tell one half of it, the engine's pool the other. */
@Injectable()
export class ColdStages {
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

  observe(stage: ColdStage, ms: number): void {
    this.duration.observe({ stage }, ms / 1_000);
  }
}
