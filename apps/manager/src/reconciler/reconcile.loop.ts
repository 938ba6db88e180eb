import type { ReconcileConfig } from '#libs/config/config.js';
import { RECONCILE_CONFIG } from '#libs/config/config.module.js';
import { Notifications } from '#libs/database/notifications.js';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Inject, Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { FunctionBus } from '../functions/function-bus.js';
import { FunctionChanges } from '../functions/function-changes.js';
import { type Claim, FunctionRepository } from '../functions/function.repository.js';
import { StepSlots } from '../functions/inline-reconciler.js';
import { FunctionReconciler } from './function.reconciler.js';

const DUE = 'faas_due';
/** How long steps may go on at shutdown before they are aborted. */
const STOP_GRACE_MS = 5_000;

/**
 * Claims due rows and makes a step for each. Notifications and hints of the engine start a claim at once, a slow poll
 * stands behind them.
 */
@Injectable()
export class ReconcileLoop implements OnApplicationBootstrap {
  private readonly stopping = new AbortController();
  private readonly aborting = new AbortController();
  private readonly steps = new Set<Promise<void>>();
  private readonly timers = new Set<NodeJS.Timeout>();
  private poll: NodeJS.Timeout | undefined;
  private claiming = false;
  private withdrawn = false;
  private claimingDone: Promise<void> = Promise.resolve();
  private claimAgain = false;

  constructor(
    private readonly repository: FunctionRepository,
    private readonly reconciler: FunctionReconciler,
    private readonly orchestrator: Orchestrator,
    @Inject(RECONCILE_CONFIG) private readonly config: ReconcileConfig,
    notifications: Notifications,
    private readonly changes: FunctionChanges,
    private readonly slots: StepSlots,
    bus: FunctionBus,
    @InjectPinoLogger(ReconcileLoop.name) private readonly logger: PinoLogger,
  ) {
    notifications.on(DUE, () => this.kick());
    bus.on('claimed', (claim, leaseMs) => this.beginClaimed(claim, leaseMs));
    bus.on('slotFree', () => {
      if (this.slots.free === 1) this.kick();
    });
  }

  onApplicationBootstrap(): void {
    this.poll = setInterval(() => this.kick(), this.config.pollMs);
    void this.orchestrator
      .watch((id) => void this.hint(id), this.stopping.signal)
      .catch((error: unknown) => this.logger.error({ err: error }, 'watching the engine ended'));
    // No hint is left of what happened while no manager ran.
    void this.hint(undefined);
  }

  /**
   * Leaves functions to the other managers, except those that an upload or removal here waits for. A manager that shuts
   * down may finish calls for many minutes, and with its old settings it would undo what its successors do.
   */
  withdraw(): void {
    this.withdrawn = true;
    this.slots.closeForRequests();
  }

  /**
   * Stops claiming and waits for the steps. Those that take too long are aborted and left to the next manager.
   */
  async stop(): Promise<void> {
    this.stopping.abort();
    this.slots.closeForRequests();
    clearInterval(this.poll);
    for (const timer of this.timers) clearTimeout(timer);
    const late = setTimeout(() => this.aborting.abort(), STOP_GRACE_MS);
    // A claim under way may still begin steps.
    await this.claimingDone;
    while (this.steps.size > 0) await Promise.allSettled(this.steps);
    clearTimeout(late);
  }

  /** Claims due rows now. Calls during a claim become one more claim, so that many of them cost little. */
  kick(): void {
    if (this.stopping.signal.aborted || (this.withdrawn && this.changes.awaited.length === 0)) return;
    if (this.claiming) {
      this.claimAgain = true;
      return;
    }
    this.claiming = true;
    this.claimingDone = this.claimAll()
      .catch((error: unknown) => this.report(error, 'could not claim due functions'))
      .finally(() => {
        this.claiming = false;
        if (this.claimAgain) this.kick();
      });
  }

  private async claimAll(): Promise<void> {
    do {
      this.claimAgain = false;
      const { free } = this.slots;
      if (free <= 0) return;
      const only = this.withdrawn ? this.changes.awaited : undefined;
      const { settingsSha256 } = this.slots;
      const claims = await this.repository.claim(free, this.config.leaseMs, { only, settingsSha256 });
      for (const claim of claims) {
        this.slots.take();
        this.begin(claim, this.config.leaseMs);
      }
      if (claims.length === free) return;
    } while (this.claimAgain && !this.stopping.signal.aborted);
  }

  private beginClaimed(claim: Claim, leaseMs: number): void {
    if (!this.stopping.signal.aborted) {
      this.begin(claim, leaseMs);
      return;
    }
    this.slots.release();
    this.repository.release(claim).catch(() => undefined);
  }

  private begin(claim: Claim, leaseMs: number): void {
    const step = this.run(claim, leaseMs).finally(() => {
      this.steps.delete(step);
      this.slots.release();
      this.kick();
    });
    this.steps.add(step);
  }

  private async run(claim: Claim, leaseMs: number): Promise<void> {
    const lost = new AbortController();
    const renewal = setInterval(() => void this.renew(claim, leaseMs, lost), leaseMs / 3);
    try {
      const signal = AbortSignal.any([lost.signal, this.aborting.signal]);
      const nextMs = await this.reconciler.step(claim, this.config, signal);
      if (nextMs !== null && nextMs < this.config.pollMs) this.kickIn(nextMs);
    } catch (error) {
      if (this.aborting.signal.aborted) await this.repository.release(claim).catch(() => undefined);
      else if (!lost.signal.aborted) this.report(error, 'reconcile step not recorded');
    } finally {
      clearInterval(renewal);
    }
  }

  private async renew(claim: Claim, leaseMs: number, lost: AbortController): Promise<void> {
    try {
      if (!(await this.repository.renew(claim, leaseMs))) lost.abort();
    } catch (error) {
      this.report(error, 'could not renew a lease');
    }
  }

  private kickIn(ms: number): void {
    if (this.stopping.signal.aborted) return;
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      this.kick();
    }, ms + 1);
    this.timers.add(timer);
  }

  private async hint(id: FunctionId | undefined): Promise<void> {
    try {
      await (id === undefined ? this.repository.requestReconcileOfAll() : this.repository.requestReconcile(id));
    } catch (error) {
      this.report(error, 'could not note a hint of the engine');
    }
  }

  private report(error: unknown, message: string): void {
    if (error instanceof DatabaseUnavailable) this.logger.warn({ reason: error.message }, message);
    else this.logger.error({ err: error }, message);
  }
}
