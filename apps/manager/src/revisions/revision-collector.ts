import type { FunctionDefaults, ReconcileConfig } from '#libs/config/config.js';
import { FUNCTION_DEFAULTS, RECONCILE_CONFIG } from '#libs/config/config.module.js';
import { Repeating } from '#libs/deadlines/repeating.js';
import { AppError } from '#libs/errors/app-error.js';
import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { RevisionRepository } from './revision.repository.js';

/** Gives up revisions whose makers are gone, and removes those that nobody has called or gone back to for long. */
@Injectable()
export class RevisionCollector implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly sweeps: Repeating;

  constructor(
    private readonly revisions: RevisionRepository,
    @Inject(FUNCTION_DEFAULTS) private readonly config: Pick<FunctionDefaults, 'revisionRetentionMs'>,
    @Inject(RECONCILE_CONFIG) pace: Pick<ReconcileConfig, 'orphanSweepMs'>,
    @InjectPinoLogger(RevisionCollector.name) private readonly logger: PinoLogger,
  ) {
    this.sweeps = new Repeating(pace.orphanSweepMs, (signal) => this.sweep(signal));
  }

  onApplicationBootstrap(): void {
    this.sweeps.start('later');
  }

  onApplicationShutdown(): Promise<void> {
    return this.sweeps.stop();
  }

  private async sweep(signal: AbortSignal): Promise<void> {
    const { revisionRetentionMs } = this.config;
    try {
      const failed = await this.revisions.giveUpAbandoned();
      if (failed > 0) this.logger.info({ revisions: failed }, 'revisions given up for whose packages nobody waits');
      if (revisionRetentionMs === 0) return;
      for (const id of await this.revisions.withExpired(revisionRetentionMs)) {
        if (signal.aborted) return;
        const removed = await this.revisions.removeExpired(id, revisionRetentionMs);
        if (removed.length > 0) this.logger.info({ functionId: id, revisions: removed }, 'old revisions removed');
      }
    } catch (error) {
      if (signal.aborted) return;
      const isKnown = error instanceof AppError;
      this.logger[isKnown ? 'warn' : 'error'](
        { err: isKnown ? undefined : error, reason: String(error) },
        'sweep of revisions failed',
      );
    }
  }
}
