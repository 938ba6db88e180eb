import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { Metrics } from '#libs/observability/metrics.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Injectable } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { Counter } from 'prom-client';
import { InlineReconciler } from '../functions/inline-reconciler.js';
import { DemandRepository } from './demand.repository.js';

/** While calls wait and the function sleeps on, its wake is asked for again: it may have been lost. */
const AGAIN_MS = 1_000;
const AFTER_FAILURE_MS = 250;

/** What calls wait for. */
export interface Sleeper {
  readonly id: FunctionId;
  /** It has no replicas, and gets them when it is called. */
  readonly sleeps: boolean;
  readonly pool: { readonly waiting: number };
}

/** Wakes functions that sleep when they are called. */
@Injectable()
export class Activator {
  private readonly waking = new Set<FunctionId>();
  private readonly wakes: Counter;

  constructor(
    private readonly inline: InlineReconciler,
    private readonly demands: DemandRepository,
    { registry }: Metrics,
    @InjectPinoLogger(Activator.name) private readonly logger: PinoLogger,
  ) {
    const help = 'Functions woken from their sleep.';
    this.wakes = new Counter({ name: 'faas_wakes_total', help, registers: [registry] });
  }

  /** However many calls ask at once, one wake is written, until the function is awake or no call waits any more. */
  wake(sleeper: Sleeper): void {
    if (this.waking.has(sleeper.id)) return;
    this.waking.add(sleeper.id);
    void this.write(sleeper.id).then((againMs) => {
      const again = () => {
        this.waking.delete(sleeper.id);
        if (sleeper.sleeps && sleeper.pool.waiting > 0) this.wake(sleeper);
      };
      setTimeout(again, againMs).unref();
    });
  }

  /** Answers in how many milliseconds to look whether the function is awake. */
  private async write(id: FunctionId): Promise<number> {
    try {
      const woken = await this.inline.write(id, (lease) => this.demands.wake(id, lease));
      if (woken !== undefined) this.wakes.inc();
      return AGAIN_MS;
    } catch (error) {
      const message = 'could not wake a function';
      if (error instanceof DatabaseUnavailable) this.logger.debug({ reason: error.message }, message);
      else this.logger.error({ err: error }, message);
      return AFTER_FAILURE_MS;
    }
  }
}
