import { createHash } from 'node:crypto';
import type { FunctionDefaults, OrchestratorConfig } from '#libs/config/config.js';
import { FUNCTION_DEFAULTS, ORCHESTRATOR_CONFIG } from '#libs/config/config.module.js';
import { VERSION } from '#libs/config/version.js';
import { Notifications } from '#libs/database/notifications.js';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { Inject, Injectable } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { StepSlots } from '../functions/inline-reconciler.js';
import { FunctionRepository } from '../functions/function.repository.js';
import { InstallationRepository } from '../orchestrator/installation.repository.js';
import { SETTING_NAMES } from '../revisions/function-spec.js';
import { Keyring } from '../secrets/keyring.js';
import { ReconcileLoop } from './reconcile.loop.js';

const CHANGED = 'faas_settings';
const TIMES = {
  beatMs: 5_000,
  /** Without a sign of life for so long the managers with the newest settings are gone. */
  silenceMs: 20_000,
  /** The same after the last of them that ended has said so: each that is left gives a sign of life at once. */
  silenceAfterEndMs: 3_000,
  lookAgainMs: 1_000,
};
const PING_MS = 3_000;
/** Managers with other settings may have written rows with their defaults: looked for at one beat in so many. */
const BEATS_PER_SWEEP = 12;

/**
 * What the configuration makes of a worker. Managers of one installation that differ in it would replace each other's
 * workers for ever: those with the newest settings act upon functions, and the others only run calls until they are
 * gone, or the newer ones are. A manager with other settings takes over once it serves and its engine answers.
 */
@Injectable()
export class NewestSettings {
  protected readonly times: typeof TIMES = TIMES;
  private readonly sha256: string;
  /** It has been started with these settings, and has yet to take over. */
  private isNew = false;
  private beats = '';
  private silentMs = 0;
  private lookedAt = 0;
  private looks = 0;
  private timer: NodeJS.Timeout | undefined;
  private next: NodeJS.Timeout | undefined;
  private looking: Promise<void> = Promise.resolve();

  constructor(
    private readonly installation: InstallationRepository,
    private readonly functions: FunctionRepository,
    private readonly slots: StepSlots,
    private readonly loop: ReconcileLoop,
    private readonly orchestrator: Orchestrator,
    private readonly notifications: Notifications,
    @Inject(FUNCTION_DEFAULTS) private readonly defaults: FunctionDefaults,
    @Inject(ORCHESTRATOR_CONFIG) config: OrchestratorConfig,
    keyring: Keyring,
    @InjectPinoLogger(NewestSettings.name) private readonly logger: PinoLogger,
  ) {
    this.sha256 = sha256Of(orchestrator.engine, config, defaults, keyring.fingerprint);
    slots.isOutdated = true;
    slots.settingsSha256 = this.sha256;
    this.notifications.on(CHANGED, () => this.lookSoon());
  }

  /** @param isNew false for a process that takes the place of another one: its settings are no newer than that one's */
  async begin(isNew: boolean): Promise<void> {
    this.isNew = isNew;
    this.timer = setInterval(() => this.lookSoon(), this.times.beatMs).unref();
    this.lookSoon();
    await this.looking;
  }

  /** Counts no longer as alive. */
  withdraw(): void {
    clearInterval(this.timer);
    clearTimeout(this.next);
    this.timer = undefined;
  }

  async stop(): Promise<void> {
    this.withdraw();
    await this.looking;
    await this.installation.endBeats(this.sha256).catch((error: unknown) => this.report(error));
  }

  private lookSoon(): void {
    this.looking = this.looking
      .then(() => this.look())
      .catch((error: unknown) => {
        this.report(error);
        // Others may be waiting for a sign of life.
        this.lookIn(this.times.lookAgainMs);
      });
  }

  private lookIn(ms: number): void {
    if (this.timer === undefined) return;
    clearTimeout(this.next);
    this.next = setTimeout(() => this.lookSoon(), ms).unref();
  }

  private async look(): Promise<void> {
    if (this.timer === undefined) return;
    const { isNewest, areNone, beats } = await this.installation.beat(this.sha256);
    if (isNewest) return this.act();
    const isTaken = (areNone || (await this.mayTake(beats))) && (await this.take(beats));
    if (!isTaken) this.giveWay();
  }

  /** One whose engine does not answer waits twice as long, so that any other manager comes first. */
  private async mayTake(beats: string): Promise<boolean> {
    const { beatMs, silenceMs, silenceAfterEndMs, lookAgainMs } = this.times;
    const now = performance.now();
    // What passed while this process stood still is nobody's silence.
    this.silentMs = beats === this.beats ? this.silentMs + Math.min(now - this.lookedAt, beatMs) : 0;
    this.beats = beats;
    this.lookedAt = now;
    const isEnded = beats === '0';
    if (isEnded) this.lookIn(lookAgainMs);
    const silence = this.silentMs / (isEnded ? silenceAfterEndMs : silenceMs);
    if (silence >= 2) return true;
    return (this.isNew || silence >= 1) && (await this.engineAnswers());
  }

  /** False when it isn't new, and somebody has given a sign of life meanwhile. */
  private async take(beats: string): Promise<boolean> {
    const { engine } = this.orchestrator;
    if (!(await this.installation.takeSettings(this.sha256, engine, this.isNew ? undefined : beats))) return false;
    this.logger.info('this manager, with its settings, acts upon functions from now on');
    await this.act();
    return true;
  }

  private async act(): Promise<void> {
    this.isNew = false;
    this.silentMs = 0;
    const begins = this.slots.isOutdated;
    if (begins || this.looks % BEATS_PER_SWEEP === 0) {
      const functions = await this.functions.applyDefaults(this.defaults, this.sha256);
      if (functions > 0) this.logger.info({ functions }, 'functions follow other defaults from now on');
    }
    this.looks += 1;
    if (!begins) return;
    // First, so that a look after a failure does it again.
    await this.functions.requestReconcileOfAll();
    this.orchestrator.warmPool?.rest(false);
    this.slots.isOutdated = false;
    this.loop.kick();
  }

  private giveWay(): void {
    if (this.isNew) {
      this.logger.warn('its engine does not answer, so that managers with other settings go on acting upon functions');
    } else if (!this.slots.isOutdated) {
      this.logger.warn(
        'a manager with other settings has been started: this one still runs calls, and leaves functions to that one',
      );
    }
    this.slots.isOutdated = true;
    this.orchestrator.warmPool?.rest(true);
  }

  private engineAnswers(): Promise<boolean> {
    return this.orchestrator.ping(AbortSignal.timeout(PING_MS)).then(
      () => true,
      () => false,
    );
  }

  private report(error: unknown): void {
    if (error instanceof DatabaseUnavailable) this.logger.debug({ reason: error.message }, 'settings not compared');
    else this.logger.error({ err: error }, 'settings not compared');
  }
}

function sha256Of(
  engine: string,
  { docker, kubernetes, process }: OrchestratorConfig,
  defaults: FunctionDefaults,
  secretsKeys: string,
) {
  const { image, network, internal, seccomp, firewall, runtime } = docker;
  // Of packages workers get to see where they are fetched from, and nothing else.
  const { kubeconfig: _, insideCluster: __, layers, ...cluster } = kubernetes;
  const { timeoutMs, concurrency, memoryMiB, cpuMillis, pids, idleTimeoutMs, minReplicas } = defaults;
  const byEngine: Readonly<Record<string, unknown>> = {
    docker: { image, network, internal, seccomp, firewall, runtime },
    kubernetes: { ...cluster, layersUrl: layers?.served?.url },
    process: { python: process.python, workerDir: process.workerDir },
  };
  const own = { timeoutMs, concurrency, memoryMiB, cpuMillis, pids, idleTimeoutMs, minReplicas };
  return createHash('sha256')
    .update(
      // A manager that doesn't know a setting, or lacks a key, would start workers without what they need.
      JSON.stringify([VERSION, engine, byEngine[engine], own, SETTING_NAMES, secretsKeys]),
    )
    .digest('hex');
}
