import type { InvocationsConfig } from '#libs/config/config.js';
import { INVOCATIONS_CONFIG } from '#libs/config/config.module.js';
import { AppError } from '#libs/errors/app-error.js';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { randomUUID } from 'node:crypto';
import { FunctionChanges } from '../functions/function-changes.js';
import { type Route, Router } from '../gateway/router.js';
import { BACKGROUND_SHARE } from '../gateway/slot-pool.js';
import { Attempt, AttemptRunner } from './attempt-runner.js';
import { type Claimed, InvocationRepository, type Turn } from './invocation.repository.js';
import { InvocationSignals } from './invocation-signals.js';
import { type Asking, turnsOf } from './turns.js';

/**
 * Calls are claimed ahead, for each slot that a function's may have, so that none of those waits for the next claim: as
 * many as it serves in that time, in these bounds. What is claimed waits here, and no other manager can have it.
 */
const AHEAD_MS = 50;
const LEAST_AHEAD = 2;
const MOST_AHEAD = 8;
const MOST_TURNS = 64;
/** Routes that are loaded at once, so that many functions are not all asked for together. */
const MOST_LOADS = 16;
/** Attempts that are ended at shutdown are given back within this time. */
const GIVE_BACK_MS = 3_000;

/** The right to begin a call here as soon as it is kept. */
export interface Place {
  /** What its row is held by. */
  readonly token: string;
  readonly begin: (claim: Omit<Claimed, 'token'>) => void;
  /** Gives it back, unless the call has begun. */
  readonly release: () => void;
}

/**
 * Claims calls that are due and has them run. It knows of each function when to look for its calls next: it is told by
 * those who enqueue, and a slow poll stands behind them.
 */
@Injectable()
export class Dispatcher implements OnApplicationBootstrap, OnApplicationShutdown {
  /** When to look for calls of a function, in `performance.now()` milliseconds; the longest waiting first. */
  private readonly looks = new Map<FunctionId, number>();
  private readonly attempts = new Map<string, Attempt>();
  /** Attempts whose handler isn't done yet. */
  private readonly active = new Map<FunctionId, number>();
  private readonly ends = new Set<Promise<void>>();
  /** Places that are held for calls which are being written. */
  private placed = 0;
  private readonly loading = new Set<FunctionId>();
  /** Functions that were asked for and have no route: not again until they change, or the next poll. */
  private readonly routeless = new Set<FunctionId>();
  private readonly unsubscribe: () => void;
  private poll: NodeJS.Timeout | undefined;
  private renewal: NodeJS.Timeout | undefined;
  private alarm: NodeJS.Timeout | undefined;
  private claiming: Promise<void> | undefined;
  private claimAgain = false;
  private isPolling = false;
  private renewing: Promise<void> | undefined;
  private isRenewalLate = false;
  private isWithdrawn = false;

  constructor(
    private readonly repository: InvocationRepository,
    private readonly runner: AttemptRunner,
    private readonly router: Router,
    private readonly signals: InvocationSignals,
    changes: FunctionChanges,
    @Inject(INVOCATIONS_CONFIG) private readonly config: InvocationsConfig,
    @InjectPinoLogger(Dispatcher.name) private readonly logger: PinoLogger,
  ) {
    signals.onDue((id, inMs) => (id === undefined ? void this.lookAround() : this.lookAt(id, inMs)));
    signals.onCancelled((id) => this.attempts.get(id)?.end('cancel'));
    // A function that could not be called may be able to be now, once the router has heard of it too.
    this.unsubscribe = changes.subscribe((id) => {
      if (id === undefined || !this.looks.has(id)) return;
      this.routeless.delete(id);
      void this.router.refresh(id).then(() => this.kick());
    });
  }

  onApplicationBootstrap(): void {
    this.poll = setInterval(() => void this.lookAround(), this.config.pollMs);
    this.renewal = setInterval(() => void this.renew(), this.config.leaseMs / 3);
    void this.lookAround();
  }

  /** Claims nothing any more; what runs goes on. */
  withdraw(): void {
    this.isWithdrawn = true;
    this.unsubscribe();
    clearInterval(this.poll);
    clearTimeout(this.alarm);
  }

  /** Resolves when what runs has ended and is written. What takes longer is ended and left to another manager. */
  async drain(timeoutMs: number): Promise<void> {
    await this.claiming;
    const late = setTimeout(() => this.endAll(), timeoutMs);
    while (this.ends.size > 0) await Promise.all(this.ends);
    clearTimeout(late);
  }

  async onApplicationShutdown(): Promise<void> {
    this.withdraw();
    this.endAll();
    await this.drain(GIVE_BACK_MS);
    clearInterval(this.renewal);
  }

  private endAll(): void {
    for (const attempt of this.attempts.values()) attempt.end('shutdown');
  }

  /**
   * A place for a call that is about to be kept, so that it begins as soon as it is, without being claimed. Undefined:
   * it has to wait, for a slot or for others of its function.
   */
  place(route: Route): Place | undefined {
    const { id } = route;
    const look = this.looks.get(id);
    if (this.isWithdrawn || this.claiming !== undefined || (look !== undefined && look <= performance.now())) return;
    const active = this.active.get(id) ?? 0;
    const room = Math.max(1, Math.floor(this.router.slotsOf(route) * BACKGROUND_SHARE)) - active;
    const { concurrency } = this.config;
    const free = concurrency - this.attempts.size - this.placed;
    if (free <= 0 || turnsOf([{ functionId: id, active, room }], { free, concurrency }).length === 0) return;
    this.active.set(id, active + 1);
    this.placed += 1;
    const takenAt = performance.now();
    let isHeld = true;
    const release = () => {
      if (!isHeld) return;
      isHeld = false;
      this.placed -= 1;
      this.leave(id);
    };
    const begin = (claim: Omit<Claimed, 'token'>) => {
      // It has its place before it lets go of this one, which nobody else may take in between.
      const isLate = performance.now() - takenAt > this.config.leaseMs / 3;
      if (isLate) void this.beginLate({ ...claim, token });
      else this.begin({ ...claim, token });
      release();
    };
    const token = randomUUID();
    return { token, begin, release };
  }

  private lookAt(id: FunctionId, inMs: number): void {
    // A poll finds it in time.
    if (inMs > this.config.pollMs) return;
    const at = performance.now() + inMs;
    const known = this.looks.get(id);
    if (known !== undefined && known <= at) return;
    this.looks.set(id, at);
    this.kick();
  }

  /** For what nobody has told of, or what was told and lost: calls of managers that were killed, and due ones. */
  private async lookAround(): Promise<void> {
    if (this.isPolling || this.isWithdrawn) return;
    this.isPolling = true;
    this.routeless.clear();
    try {
      // What goes on here is taken back with what others have lost, unless its lease is renewed first.
      if (this.isRenewalLate) await this.renew();
      const upcoming = await this.repository.upcoming(this.config.pollMs);
      for (const { functionId, inMs } of upcoming) this.lookAt(functionId, inMs);
      if (this.looks.size > 0) this.kick();
    } catch (error) {
      this.report(error, 'could not look for calls for later');
    } finally {
      this.isPolling = false;
    }
  }

  private kick(): void {
    if (this.isWithdrawn) return;
    if (this.claiming !== undefined) {
      this.claimAgain = true;
      return;
    }
    this.claiming = this.claimAll()
      .catch((error: unknown) => this.report(error, 'could not claim calls for later'))
      .finally(() => {
        this.claiming = undefined;
        if (this.claimAgain) this.kick();
        else this.setAlarm();
      });
  }

  private async claimAll(): Promise<void> {
    let found = 0;
    do {
      this.claimAgain = false;
      const turns = this.turns();
      if (turns.length === 0) return;
      for (const { functionId } of turns) this.looks.delete(functionId);
      const claims = await this.claim(turns);
      for (const claim of claims) this.begin(claim);
      const counts = Map.groupBy(claims, ({ functionId }) => functionId);
      for (const { functionId, most } of turns) {
        // There are probably more. Those of others come before them.
        if (counts.get(functionId)?.length === most) this.looks.set(functionId, performance.now());
      }
      found = claims.length;
    } while ((this.claimAgain || found > 0) && !this.isWithdrawn);
  }

  private async claim(turns: readonly Turn[]): Promise<Claimed[]> {
    try {
      return await this.repository.claim(turns, this.config.leaseMs);
    } catch (error) {
      for (const { functionId } of turns) this.looks.set(functionId, performance.now() + this.config.pollMs);
      throw error;
    }
  }

  /** What may be claimed now. Functions without room wait for it, and keep no other from its turn. */
  private turns(): Turn[] {
    const free = this.config.concurrency - this.attempts.size - this.placed;
    if (free <= 0) return [];
    const now = performance.now();
    const asking: Asking[] = [];
    for (const [functionId, at] of this.looks) {
      if (asking.length === MOST_TURNS) break;
      if (at > now) continue;
      const active = this.active.get(functionId) ?? 0;
      const room = this.mostOf(functionId) - active;
      if (room > 0) asking.push({ functionId, active, room });
    }
    return turnsOf(asking, { free, concurrency: this.config.concurrency });
  }

  /** How many calls may be claimed; 0: none can run now. It is looked at again when it changes, and at the next poll. */
  private mostOf(id: FunctionId): number {
    // A look is no use of the function.
    const route = this.router.knownRoute(id);
    if (route === undefined) void this.load(id);
    if (route === undefined || route.refusal !== undefined || route.isDisabled) return 0;
    const ahead = route.serviceTime.servedIn(AHEAD_MS) ?? LEAST_AHEAD;
    const each = Math.min(MOST_AHEAD, Math.max(LEAST_AHEAD, Math.floor(ahead)));
    return Math.ceil(this.router.slotsOf(route) * BACKGROUND_SHARE) * each;
  }

  /** Nobody waits for it: one that takes long holds up no other function. */
  private async load(id: FunctionId): Promise<void> {
    if (this.routeless.has(id) || this.loading.has(id) || this.loading.size === MOST_LOADS) return;
    this.loading.add(id);
    try {
      await this.router.route(id);
    } catch (error) {
      if (error instanceof AppError && error.kind === 'not_found') this.looks.delete(id);
    }
    this.loading.delete(id);
    if (this.router.knownRoute(id) === undefined) this.routeless.add(id);
    this.kick();
  }

  private begin(claim: Claimed): void {
    const attempt = new Attempt(claim);
    const { id, functionId } = claim;
    // Its lease has ended before the handler did, and who claims it is this manager again.
    this.attempts.get(id)?.end('lost_lease');
    this.attempts.set(id, attempt);
    this.active.set(functionId, (this.active.get(functionId) ?? 0) + 1);
    if (this.isWithdrawn) attempt.end('shutdown');
    const ran = () => this.leave(functionId);
    const end = this.runner
      .run(attempt, ran)
      .then((completion) => {
        if (completion?.status === 'waiting') this.signals.due(functionId, completion.inMs ?? 0);
        else if (completion !== undefined) {
          if (claim.hasCallback) this.signals.callback();
          if (claim.isScheduled) this.signals.scheduledEnded();
        }
      })
      .finally(() => {
        if (this.attempts.get(id) === attempt) this.attempts.delete(id);
        this.ends.delete(end);
        if (this.looks.size > 0) this.kick();
      });
    this.ends.add(end);
  }

  /** It took long to write, and its lease goes from before that: what is somebody else's by now doesn't begin here. */
  private async beginLate(claim: Claimed): Promise<void> {
    try {
      const renewed = await this.repository.renew([claim], this.config.leaseMs);
      if (renewed.has(claim.id)) this.begin(claim);
    } catch (error) {
      // Whoever claims it next has its whole lease.
      this.report(error, 'could not begin a call for later that took long to keep');
    }
  }

  private leave(id: FunctionId): void {
    const left = (this.active.get(id) ?? 1) - 1;
    if (left > 0) this.active.set(id, left);
    else this.active.delete(id);
    if (this.looks.has(id)) this.kick();
  }

  /** Keeps the leases of what runs. What is lost to another manager ends here. */
  private renew(): Promise<void> {
    this.renewing ??= this.renewAll().finally(() => {
      this.renewing = undefined;
    });
    return this.renewing;
  }

  private async renewAll(): Promise<void> {
    const held = [...this.attempts.values()];
    if (held.length === 0) return;
    try {
      const renewed = await this.repository.renew(
        held.map(({ claim }) => claim),
        this.config.leaseMs,
      );
      this.isRenewalLate = false;
      for (const attempt of held) {
        const found = renewed.get(attempt.claim.id);
        // One that has ended meanwhile has no lease either, and doesn't mind.
        if (found === undefined) attempt.end('lost_lease');
        else if (found.isCancelled) attempt.end('cancel');
      }
    } catch (error) {
      this.isRenewalLate = true;
      this.report(error, 'could not renew leases of calls for later');
    }
  }

  /** For the first look that is not due yet. */
  private setAlarm(): void {
    clearTimeout(this.alarm);
    const now = performance.now();
    const next = Math.min(...[...this.looks.values()].filter((at) => at > now));
    if (next === Infinity || this.isWithdrawn) return;
    this.alarm = setTimeout(() => this.kick(), Math.ceil(next - now) + 1);
  }

  private report(error: unknown, message: string): void {
    if (error instanceof DatabaseUnavailable) this.logger.warn({ reason: error.message }, message);
    else this.logger.error({ err: error }, message);
  }
}
