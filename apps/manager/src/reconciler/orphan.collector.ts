import type { ReconcileConfig } from '#libs/config/config.js';
import { RECONCILE_CONFIG } from '#libs/config/config.module.js';
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
  private readonly stopping = new AbortController();
  private timer: NodeJS.Timeout | undefined;
  private sweeping: Promise<void> | undefined;

  constructor(
    private readonly repository: FunctionRepository,
    private readonly orchestrator: Orchestrator,
    @Inject(RECONCILE_CONFIG) private readonly config: ReconcileConfig,
    @InjectPinoLogger(OrphanCollector.name) private readonly logger: PinoLogger,
  ) {}

  onApplicationBootstrap(): void {
    const begin = () => (this.sweeping ??= this.sweep().finally(() => (this.sweeping = undefined)));
    this.timer = setInterval(() => void begin(), this.config.orphanSweepMs);
    void begin();
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
    this.stopping.abort();
    await this.sweeping;
  }

  private async sweep(): Promise<void> {
    const { signal } = this.stopping;
    await this.reported('sweep for orphans', () =>
      this.repository.exclusively(SWEEP_LOCK, async () => {
        const present = await this.bounded('the list of functions', (bounded) => this.orchestrator.list(bounded));
        const known = new Set(await this.repository.existing(present));
        for (const id of present) {
          if (known.has(id) || signal.aborted) continue;
          this.logger.warn({ functionId: id }, 'removing what is left of a function that no longer exists');
          // A removal that fails must not stop the others.
          const what = `removal of ${id}`;
          await this.reported(what, () => this.bounded(what, (bounded) => this.orchestrator.remove(id, 0, bounded)));
        }
      }),
    );
  }

  private bounded<T>(what: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { signal } = this.stopping;
    return within(what, { ms: this.config.stepTimeoutMs, graceMs: ABORT_GRACE_MS, signal }, work);
  }

  private async reported(what: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (this.stopping.signal.aborted) return;
      if (error instanceof AppError || error instanceof DeadlinePassed)
        this.logger.warn({ reason: error.message }, `${what} postponed`);
      else this.logger.error({ err: error }, `${what} failed`);
    }
  }
}
