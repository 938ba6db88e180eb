import type { ReconcileConfig } from '#libs/config/config.js';
import { RECONCILE_CONFIG } from '#libs/config/config.module.js';
import { Repeating } from '#libs/deadlines/repeating.js';
import { DeadlinePassed, within } from '#libs/deadlines/within.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { AppError } from '#libs/errors/app-error.js';
import { Inject, Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { FunctionRepository } from '../functions/function.repository.js';

const SWEEP_LOCK = 7_013_255;
/** What an aborted removal may take to leave the engine in order. */
const ABORT_GRACE_MS = 3_000;

/**
 * Removes what the engine has of functions that don't exist any more. The engine is listed before the database: a row
 * is always written before its workload is made, so an id without a row can't be a function that is being created. The
 * list and each removal have the time limit of a reconcile step.
 */
@Injectable()
export class OrphanCollector implements OnApplicationBootstrap {
  private readonly sweeps: Repeating;

  constructor(
    private readonly repository: FunctionRepository,
    private readonly orchestrator: Orchestrator,
    @Inject(RECONCILE_CONFIG) private readonly config: ReconcileConfig,
    @InjectPinoLogger(OrphanCollector.name) private readonly logger: PinoLogger,
  ) {
    this.sweeps = new Repeating(config.orphanSweepMs, (signal) => this.sweep(signal));
  }

  onApplicationBootstrap(): void {
    this.sweeps.start('now');
  }

  stop(): Promise<void> {
    return this.sweeps.stop();
  }

  private async sweep(signal: AbortSignal): Promise<void> {
    const list = (bounded: AbortSignal) => this.orchestrator.list(bounded);
    await this.reported('sweep for orphans', signal, () =>
      this.repository.exclusively(SWEEP_LOCK, async () => {
        const present = await this.bounded('the list of functions', signal, list);
        const known = new Set(await this.repository.existing(present));
        for (const id of present) {
          if (known.has(id) || signal.aborted) continue;
          this.logger.warn({ functionId: id }, 'removing what is left of a function that no longer exists');
          // A removal that fails must not stop the others.
          const what = `removal of ${id}`;
          const remove = (bounded: AbortSignal) => this.orchestrator.remove(id, 0, bounded);
          await this.reported(what, signal, () => this.bounded(what, signal, remove));
        }
      }),
    );
  }

  private bounded<T>(what: string, signal: AbortSignal, work: (bounded: AbortSignal) => Promise<T>): Promise<T> {
    return within(what, { ms: this.config.stepTimeoutMs, graceMs: ABORT_GRACE_MS, signal }, work);
  }

  private async reported(what: string, signal: AbortSignal, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof AppError || error instanceof DeadlinePassed)
        this.logger.warn({ reason: error.message }, `${what} postponed`);
      else this.logger.error({ err: error }, `${what} failed`);
    }
  }
}
