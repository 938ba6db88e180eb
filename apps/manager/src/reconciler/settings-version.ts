import { createHash } from 'node:crypto';
import type { FunctionDefaults, OrchestratorConfig } from '#libs/config/config.js';
import { FUNCTION_DEFAULTS, ORCHESTRATOR_CONFIG } from '#libs/config/config.module.js';
import { VERSION } from '#libs/config/version.js';
import { whenReachable } from '#libs/database/data-source.js';
import { Notifications } from '#libs/database/notifications.js';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { StepSlots } from '../functions/inline-reconciler.js';
import { FunctionRepository } from '../functions/function.repository.js';
import { InstallationRepository } from '../orchestrator/installation.repository.js';

const CHANGED = 'faas_settings';
const BEAT_MS = 5_000;
/** After so many looks at which no manager with newer settings gave a sign of life, they are gone. */
const MOST_SILENT_LOOKS = 4;

/**
 * What the configuration of this manager makes of a worker. Managers of one installation that differ in it would
 * replace each other's workers for ever: those with the newest settings act upon functions, and the others only run
 * calls until they are gone, or the newer ones are.
 */
@Injectable()
export class SettingsVersion implements OnModuleInit {
  private version = 0;
  private beats = '';
  private silentLooks = 0;
  private timer: NodeJS.Timeout | undefined;
  private looking: Promise<void> = Promise.resolve();

  constructor(
    private readonly installation: InstallationRepository,
    private readonly functions: FunctionRepository,
    private readonly slots: StepSlots,
    private readonly orchestrator: Orchestrator,
    private readonly notifications: Notifications,
    @Inject(FUNCTION_DEFAULTS) private readonly defaults: FunctionDefaults,
    @Inject(ORCHESTRATOR_CONFIG) private readonly config: OrchestratorConfig,
    @InjectPinoLogger(SettingsVersion.name) private readonly logger: PinoLogger,
  ) {}

  /** Whether this manager acts upon functions. */
  get isCurrent(): boolean {
    return !this.slots.isOutdated;
  }

  /** A manager that starts has the newest settings, until another one starts with others. */
  async onModuleInit(): Promise<void> {
    this.notifications.on(CHANGED, () => this.lookSoon());
    await this.take();
    this.timer = setInterval(() => this.lookSoon(), BEAT_MS);
    this.timer.unref();
  }

  /** Counts no longer as alive. */
  withdraw(): void {
    clearInterval(this.timer);
    this.timer = undefined;
  }

  async stop(): Promise<void> {
    this.withdraw();
    await this.looking;
  }

  private async take(): Promise<void> {
    this.version = await this.installation.takeSettings(sha256Of(this.orchestrator.engine, this.config, this.defaults));
    this.slots.isOutdated = false;
    const functions = await whenReachable(this.logger, () => this.functions.applyDefaults(this.defaults));
    if (functions > 0) this.logger.info({ functions }, 'functions follow other defaults from now on');
  }

  private lookSoon(): void {
    this.looking = this.looking.then(() => this.look()).catch((error: unknown) => this.report(error));
  }

  private async look(): Promise<void> {
    if (this.timer === undefined) return;
    const { version, beats } = await this.installation.beat(this.version);
    if (version === this.version) return;
    if (this.isCurrent) {
      this.slots.isOutdated = true;
      this.silentLooks = 0;
      this.logger.warn(
        'a manager with other settings has been started: this one still runs calls, and leaves functions to that one',
      );
    } else this.silentLooks = beats === this.beats ? this.silentLooks + 1 : 0;
    this.beats = beats;
    if (this.silentLooks < MOST_SILENT_LOOKS) return;
    this.logger.warn('the managers with newer settings are gone: this one acts upon functions again');
    await this.take();
  }

  private report(error: unknown): void {
    if (error instanceof DatabaseUnavailable) this.logger.debug({ reason: error.message }, 'settings not compared');
    else this.logger.error({ err: error }, 'settings not compared');
  }
}

function sha256Of(engine: string, { docker, kubernetes, process }: OrchestratorConfig, defaults: FunctionDefaults) {
  const { image, network, internal, seccomp, firewall } = docker;
  const { kubeconfig: _, insideCluster: __, ...cluster } = kubernetes;
  const { timeoutMs, concurrency, memoryMiB, cpuMillis, pids, idleTimeoutMs, minReplicas } = defaults;
  const byEngine: Readonly<Record<string, unknown>> = {
    docker: { image, network, internal, seccomp, firewall },
    kubernetes: cluster,
    process: { python: process.python, workerDir: process.workerDir },
  };
  const own = { timeoutMs, concurrency, memoryMiB, cpuMillis, pids, idleTimeoutMs, minReplicas };
  return createHash('sha256')
    .update(JSON.stringify([VERSION, engine, byEngine[engine], own]))
    .digest('hex');
}
