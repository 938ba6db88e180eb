import { Notifications } from '#libs/database/notifications.js';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { setTimeout as delay } from 'node:timers/promises';
import { FunctionChanges } from '../functions/function-changes.js';
import { InvocationSignals } from '../invocations/invocation-signals.js';
import { ScheduleMetrics } from './schedule-metrics.js';
import { type Fired, type Paused, ScheduleRepository } from './schedule.repository.js';

/** For what nobody has told of: calls that ended with their manager, and functions that may be called again. */
const POLL_MS = 30_000;
/** Another manager is about to fire what is due, or has been killed while it did. */
const AGAIN_MS = 250;
const AFTER_FAULT_MS = 1_000;
/** Calls that end within this time are looked at together. */
const SETTLE_MS = 100;

/**
 * Fires schedules that are due. One timer waits for the next of all of them, by the database's clock; whoever changes a
 * schedule tells all managers, and a slow poll stands behind that.
 */
@Injectable()
export class Scheduler implements OnApplicationBootstrap, OnApplicationShutdown {
  /** Functions whose schedules rest. */
  private resting = new Set<FunctionId>();
  private readonly unsubscribe: () => void;
  private poll: NodeJS.Timeout | undefined;
  private alarm: NodeJS.Timeout | undefined;
  private settling: NodeJS.Timeout | undefined;
  private working: Promise<void> | undefined;
  /** What is to be looked at besides what is due. */
  private readonly asked = new Set<'ended' | 'resting'>();
  private isAskedAgain = false;
  private readonly end = new AbortController();

  constructor(
    private readonly repository: ScheduleRepository,
    private readonly signals: InvocationSignals,
    private readonly metrics: ScheduleMetrics,
    notifications: Notifications,
    changes: FunctionChanges,
    @InjectPinoLogger(Scheduler.name) private readonly logger: PinoLogger,
  ) {
    notifications.on(ScheduleRepository.channel, () => this.look());
    signals.onScheduledEnded(() => {
      this.settling ??= setTimeout(() => {
        this.settling = undefined;
        this.look('ended');
      }, SETTLE_MS);
    });
    this.unsubscribe = changes.subscribe((id) => {
      if (id !== undefined && this.resting.has(id)) this.look('resting');
    });
  }

  onApplicationBootstrap(): void {
    this.poll = setInterval(() => this.look('ended', 'resting'), POLL_MS);
    this.look('ended', 'resting');
  }

  async onApplicationShutdown(): Promise<void> {
    this.end.abort();
    this.unsubscribe();
    clearInterval(this.poll);
    clearTimeout(this.alarm);
    clearTimeout(this.settling);
    await this.working;
  }

  private look(...also: readonly ('ended' | 'resting')[]): void {
    if (this.end.signal.aborted) return;
    for (const one of also) this.asked.add(one);
    if (this.working !== undefined) {
      this.isAskedAgain = true;
      return;
    }
    clearTimeout(this.alarm);
    this.working = this.work()
      .catch(async (error: unknown) => {
        this.report(error);
        // Whoever asks meanwhile waits for it.
        await delay(AFTER_FAULT_MS, undefined, { signal: this.end.signal }).catch(() => undefined);
        return 0;
      })
      .then((inMs) => {
        this.working = undefined;
        if (this.end.signal.aborted) return;
        if (this.isAskedAgain) this.look();
        else if (inMs !== null && inMs < POLL_MS) this.alarm = setTimeout(() => this.look(), Math.ceil(inMs) + 1);
      });
  }

  /** Answers in how many milliseconds the next one is due. */
  private async work(): Promise<number | null> {
    this.isAskedAgain = false;
    await this.ifAsked('resting', () => this.goOn());
    await this.ifAsked('ended', async () => this.pausedNow(await this.repository.settle()));
    for (;;) {
      const inMs = await this.repository.nearest();
      if (inMs === null || inMs > 0) return inMs;
      const { fired, paused } = await this.repository.fire();
      this.pausedNow(paused);
      for (const one of fired) this.firedNow(one);
      if (fired.length + paused.length === 0) return AGAIN_MS;
      if (this.end.signal.aborted) return null;
    }
  }

  private async ifAsked(what: 'ended' | 'resting', work: () => Promise<void>): Promise<void> {
    if (!this.asked.delete(what)) return;
    try {
      await work();
    } catch (error) {
      this.asked.add(what);
      throw error;
    }
  }

  private async goOn(): Promise<void> {
    const found = await this.repository.resting();
    const [callable, others] = [true, false].map((is) =>
      found.filter(({ isCallable }) => isCallable === is).map(({ functionId }) => functionId),
    ) as [FunctionId[], FunctionId[]];
    this.resting = new Set(others);
    if (callable.length > 0) await this.repository.goOn(callable);
  }

  private firedNow(one: Fired): void {
    const { functionId, name: schedule, call, missed, isResting, fault } = one;
    this.metrics.fired(one);
    if (isResting) this.resting.add(functionId);
    if (call !== undefined) this.signals.due(functionId, 0);
    if (fault !== undefined) this.logger.error({ err: fault, functionId, schedule }, 'a schedule has no next time');
    for (const { reason, count, last } of missed) {
      this.logger.warn({ functionId, schedule, reason, count, last }, 'a schedule has missed a time');
    }
  }

  private pausedNow(paused: readonly Paused[]): void {
    for (const { functionId, name: schedule, failures } of paused) {
      this.logger.warn({ functionId, schedule, failures }, 'a schedule is paused: its calls have failed');
    }
  }

  private report(error: unknown): void {
    if (error instanceof DatabaseUnavailable) this.logger.warn({ reason: error.message }, 'could not fire schedules');
    else this.logger.error({ err: error }, 'could not fire schedules');
  }
}
