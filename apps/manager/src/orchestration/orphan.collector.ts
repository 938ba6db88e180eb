import type { ReconcileConfig } from '#libs/config/config.js';
import { RECONCILE_CONFIG } from '#libs/config/config.module.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { AppError } from '#libs/errors/app-error.js';
import { Inject, Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { FunctionRepository } from '../functions/function.repository.js';

const SWEEP_LOCK = 7_013_255;

/**
 * Removes what the engine holds for functions that no longer exist. The engine is listed before the database: a row is
 * always written before its workload is made, so an id missing from the later list can't be a function being created.
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
        const present = await this.orchestrator.list(signal);
        const known = await this.repository.ids();
        for (const id of present) {
          if (known.has(id) || signal.aborted) continue;
          this.logger.warn({ functionId: id }, 'removing what is left of a function that no longer exists');
          // One that can't be removed must not keep the others.
          await this.reported(`removal of ${id}`, () => this.orchestrator.remove(id, 0, signal));
        }
      }),
    );
  }

  private async reported(what: string, work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (this.stopping.signal.aborted) return;
      if (error instanceof AppError) this.logger.warn({ reason: error.message }, `${what} postponed`);
      else this.logger.error({ err: error }, `${what} failed`);
    }
  }
}
