import type { ScaleConfig } from '#libs/config/config.js';
import { SCALE_CONFIG } from '#libs/config/config.module.js';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { Inject, Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { DemandRepository } from './demand.repository.js';
import { FunctionChanges } from '../functions/function-changes.js';
import { FunctionRepository } from '../functions/function.repository.js';
import { StepSlots } from '../functions/inline-reconciler.js';
import { scaleSteps, wantsMore } from './desired-replicas.js';

const SCALE_LOCK = 7_013_256;
const FORGET_EVERY = 60;
/** While nothing runs, so many rounds are skipped, or fewer if a function changes. */
const MOST_SKIPPED = 60;

/** Decides how many replicas each function should have, on one manager at a time. The reconcile loop makes it so. */
@Injectable()
export class Autoscaler implements OnApplicationBootstrap {
  private timer: NodeJS.Timeout | undefined;
  private round: Promise<void> | undefined;
  private rounds = 0;
  private changed = 0;
  /** Rounds to skip, because no function was awake at the last one. */
  private skip = 0;
  private readonly unsubscribe: () => void;

  constructor(
    private readonly functions: FunctionRepository,
    private readonly demands: DemandRepository,
    private readonly orchestrator: Orchestrator,
    private readonly slots: StepSlots,
    @Inject(SCALE_CONFIG) private readonly config: ScaleConfig,
    changes: FunctionChanges,
    @InjectPinoLogger(Autoscaler.name) private readonly logger: PinoLogger,
  ) {
    this.unsubscribe = changes.subscribe(() => {
      this.changed += 1;
      this.skip = 0;
    });
  }

  onApplicationBootstrap(): void {
    this.timer = setInterval(() => this.begin(), this.config.intervalMs);
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
    this.unsubscribe();
    await this.round;
  }

  private begin(): void {
    if (this.slots.isOutdated) return;
    if (this.skip > 0) this.skip -= 1;
    else this.round ??= this.once().finally(() => (this.round = undefined));
  }

  private async once(): Promise<void> {
    try {
      await this.functions.exclusively(SCALE_LOCK, () => this.scale());
    } catch (error) {
      if (error instanceof DatabaseUnavailable) this.logger.debug({ reason: error.message }, 'scaling postponed');
      else this.logger.error({ err: error }, 'scaling failed');
    }
  }

  private async scale(): Promise<void> {
    const before = this.changed;
    if (!(await this.demands.areAwake())) {
      if (this.changed === before) this.skip = MOST_SKIPPED;
      return;
    }
    for (const functionId of await this.demands.putToSleep()) this.logger.info({ functionId }, 'function is idle');
    const loads = await this.demands.loads(this.mostReplicas);
    const free = wantsMore(loads) ? await this.freeMiB() : 0;
    for (const { load, to } of scaleSteps(loads, free)) {
      await this.demands.scale(load.id, load.replicas, to);
      const { callsNow, callsLately } = load;
      this.logger.info({ functionId: load.id, from: load.replicas, to, callsNow, callsLately }, 'function scaled');
    }
    this.rounds += 1;
    if (this.rounds % FORGET_EVERY === 0) await this.demands.forgetStale();
  }

  private get mostReplicas(): number {
    return this.orchestrator.capabilities.scalesItself ? this.config.maxClusterReplicas : this.config.maxReplicas;
  }

  private async freeMiB(): Promise<number> {
    return this.orchestrator.capabilities.scalesItself
      ? Infinity
      : this.config.memoryMiB - (await this.demands.memoryInUseMiB());
  }
}
