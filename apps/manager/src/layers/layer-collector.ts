import type { LayersConfig, ReconcileConfig } from '#libs/config/config.js';
import { LAYERS_CONFIG, RECONCILE_CONFIG } from '#libs/config/config.module.js';
import { Repeating } from '#libs/deadlines/repeating.js';
import { within } from '#libs/deadlines/within.js';
import { AppError } from '#libs/errors/app-error.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { LayerRepository } from './layer.repository.js';

/** Removes layers that nobody needs any more, from the database and then from where the engine has unpacked them. */
@Injectable()
export class LayerCollector implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly sweeps: Repeating;

  constructor(
    private readonly layers: LayerRepository,
    private readonly orchestrator: Orchestrator,
    @Inject(LAYERS_CONFIG) private readonly config: LayersConfig,
    @Inject(RECONCILE_CONFIG) private readonly pace: Pick<ReconcileConfig, 'orphanSweepMs' | 'stepTimeoutMs'>,
    @InjectPinoLogger(LayerCollector.name) private readonly logger: PinoLogger,
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
    try {
      const { layers: engine } = this.orchestrator;
      if (engine === undefined) return;
      const kept = new Set(await this.layers.collect(this.config.retentionMs));
      const limits = { ms: this.pace.stepTimeoutMs, signal };
      await within('a sweep of layers', limits, (bounded) => engine.sweep(kept, bounded));
    } catch (error) {
      if (signal.aborted) return;
      const isKnown = error instanceof AppError;
      this.logger[isKnown ? 'warn' : 'error'](
        { err: isKnown ? undefined : error, reason: String(error) },
        'sweep of layers failed',
      );
    }
  }
}
