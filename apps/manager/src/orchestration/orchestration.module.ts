import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { type BeforeApplicationShutdown, Module, type OnApplicationShutdown } from '@nestjs/common';
import { FunctionsModule } from '../functions/functions.module.js';
import { Autoscaler } from './autoscaler.js';
import { FormerEngines } from './former-engines.js';
import { FunctionReconciler } from './function.reconciler.js';
import { OrchestratorModule } from './orchestrator.module.js';
import { OrphanCollector } from './orphan.collector.js';
import { ReconcileMetrics } from './reconcile-metrics.js';
import { ReconcileLoop } from './reconcile.loop.js';

@Module({
  imports: [FunctionsModule, OrchestratorModule],
  providers: [Autoscaler, FormerEngines, FunctionReconciler, ReconcileMetrics, ReconcileLoop, OrphanCollector],
})
export class OrchestrationModule implements BeforeApplicationShutdown, OnApplicationShutdown {
  constructor(
    private readonly loop: ReconcileLoop,
    private readonly orphans: OrphanCollector,
    private readonly former: FormerEngines,
    private readonly autoscaler: Autoscaler,
    private readonly orchestrator: Orchestrator,
  ) {}

  /** Before the database closes: steps under way still have their results to write. */
  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all([this.loop.stop(), this.orphans.stop(), this.former.stop(), this.autoscaler.stop()]);
  }

  async onApplicationShutdown(): Promise<void> {
    await this.orchestrator.close();
  }
}
