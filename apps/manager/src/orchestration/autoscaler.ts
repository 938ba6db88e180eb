import type { ScaleConfig } from '#libs/config/config.js';
import { SCALE_CONFIG } from '#libs/config/config.module.js';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { Inject, Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { DemandRepository } from '../functions/demand.repository.js';
import { FunctionRepository } from '../functions/function.repository.js';
import { scaleSteps } from './desired-replicas.js';

const SCALE_LOCK = 7_013_256;
const FORGET_EVERY = 60;

/** Writes how many replicas each function should have, on one manager at a time; the reconcile loop makes it so. */
@Injectable()
export class Autoscaler implements OnApplicationBootstrap {
  private timer: NodeJS.Timeout | undefined;
  private round: Promise<void> | undefined;
  private rounds = 0;

  constructor(
    private readonly functions: FunctionRepository,
    private readonly demands: DemandRepository,
    private readonly orchestrator: Orchestrator,
    @Inject(SCALE_CONFIG) private readonly config: ScaleConfig,
    @InjectPinoLogger(Autoscaler.name) private readonly logger: PinoLogger,
  ) {}

  onApplicationBootstrap(): void {
    const begin = () => (this.round ??= this.once().finally(() => (this.round = undefined)));
    this.timer = setInterval(() => void begin(), this.config.intervalMs);
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
    await this.round;
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
    for (const functionId of await this.demands.putToSleep()) this.logger.info({ functionId }, 'function is idle');
    const loads = await this.demands.loads(this.mostReplicas);
    const free = loads.length === 0 ? 0 : await this.freeMiB();
    for (const { load, to } of scaleSteps(loads, free)) {
      await this.demands.scale(load.id, load.replicas, to);
      const { callsNow, callsLately } = load;
      this.logger.info({ functionId: load.id, from: load.replicas, to, callsNow, callsLately }, 'function scaled');
    }
    this.rounds += 1;
    if (this.rounds % FORGET_EVERY === 0) await this.demands.forgetStale();
  }

  /** A cluster has an autoscaler and a scheduler of its own: there the count is a floor, and memory the cluster's to mind. */
  private get isCluster(): boolean {
    return this.orchestrator.engine === 'kubernetes';
  }

  private get mostReplicas(): number {
    return this.isCluster ? this.config.maxClusterReplicas : this.config.maxReplicas;
  }

  private async freeMiB(): Promise<number> {
    return this.isCluster ? Infinity : this.config.memoryMiB - (await this.demands.memoryInUseMiB());
  }
}
