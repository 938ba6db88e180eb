import { orGiveUp } from '#libs/deadlines/within.js';
import { LOGGER } from '#libs/observability/logging.module.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { type BeforeApplicationShutdown, Inject, Module, type OnApplicationShutdown } from '@nestjs/common';
import type { Logger } from 'pino';
import { FunctionsModule } from '../functions/functions.module.js';
import { Autoscaler } from '../scaling/autoscaler.js';
import { ScalingModule } from '../scaling/scaling.module.js';
import { EngineMigration } from './engine-migration.js';
import { FunctionReconciler } from './function.reconciler.js';
import { OrchestratorModule } from '../orchestrator/orchestrator.module.js';
import { OrphanCollector } from './orphan.collector.js';
import { ReconcileMetrics } from './reconcile-metrics.js';
import { ReconcileLoop } from './reconcile.loop.js';
import { NewestSettings } from './newest-settings.js';

/** Longer than steps may take to end and to leave the engine in order. */
const STEPS_MS = 10_000;
/** Longer than ending the workers of the pool may take. */
const ENGINE_MS = 6_000;

@Module({
  imports: [FunctionsModule, ScalingModule, OrchestratorModule],
  providers: [NewestSettings, EngineMigration, FunctionReconciler, ReconcileMetrics, ReconcileLoop, OrphanCollector],
})
export class ReconcilerModule implements BeforeApplicationShutdown, OnApplicationShutdown {
  constructor(
    private readonly loop: ReconcileLoop,
    private readonly orphans: OrphanCollector,
    private readonly migration: EngineMigration,
    private readonly autoscaler: Autoscaler,
    private readonly settings: NewestSettings,
    private readonly orchestrator: Orchestrator,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  /** Before the database closes: steps still have to record their outcomes. */
  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all([
      orGiveUp('reconcile steps', STEPS_MS, this.logger, () => this.loop.stop()),
      orGiveUp('the sweep for orphans', STEPS_MS, this.logger, () => this.orphans.stop()),
      orGiveUp('clearing a former engine', STEPS_MS, this.logger, () => this.migration.stop()),
      orGiveUp('the comparison of settings', STEPS_MS, this.logger, () => this.settings.stop()),
      orGiveUp('the autoscaler', STEPS_MS, this.logger, () => this.autoscaler.stop()),
    ]);
  }

  async onApplicationShutdown(): Promise<void> {
    await orGiveUp('the engine', ENGINE_MS, this.logger, () => this.orchestrator.close());
  }
}
