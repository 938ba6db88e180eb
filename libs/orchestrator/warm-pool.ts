import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { within } from '#libs/deadlines/within.js';
import {
  type Kind,
  kindOf,
  LONGEST_WAIT_MS,
  oneTimeToken,
  type OneTimeToken,
  type Specialisation,
  specialise,
} from './generic-worker.js';
import { FairShare } from './fair-share.js';
import type { PoolCounts, PoolReport, StageListener, WarmStage } from './orchestrator.js';
import type { IdleProcessors } from './idle-processors.js';
import { DEMAND_WINDOW_MS, poolTarget } from './pool-target.js';
import type { CallToken } from './worker-tokens.js';
import type { EndpointAddress, FunctionId } from './workload.js';

/** How long a generic worker outlives the manager that asks after it. */
const LEASE_MS = 30_000;
/** A renewal may fail, or come late, a few times. */
const RENEWALS_PER_LEASE = 4;
const RENEWED_AT_ONCE = 4;
/** A taken worker is replaced once none was taken for so long, as those need the processor first; the second bounds it. */
const REPLACE_AFTER_MS = 60;
const REPLACE_WITHIN_MS = 500;
/** While none is ready. Otherwise one at a time: calls need the processor more. */
const STARTS_AT_ONCE = 2;
/** Where there are so many, and half of those there shall be, others start only while the processors are idle. */
const ENOUGH = 4;
const LEAST_IDLE = 0.3;
/** And once none was taken for so long. */
const RUSH_IS_OVER_MS = 400;
/**
 * A rush that lasts no longer is served by those that there are, where workers start on the processors that serve it:
 * what starts meanwhile comes too late for it.
 */
const BURST_MS = 2_000;
const ASK_AGAIN_MS = 500;
const UP_MS = 30_000;
const FIRST_LOOK_MS = 20;
const LAST_LOOK_MS = 250;
const UNHEARD_MS = 500;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 600_000;
const CLOSE_MS = 5_000;
/** Longer than an engine takes for a round and for a start: a call that hangs must not stop the pool. */
const ROUND_MS = 60_000;
const START_MS = 120_000;

/** A worker without a function. */
export interface PoolMember {
  readonly id: string;
  readonly address: EndpointAddress;
  /** Lets it be given a function, once. */
  readonly token: string;
  /** What its managers show with each call. */
  readonly call: CallToken;
}

/** A worker that was started without a function is none that could be given one. */
export class NotGeneric extends Error {
  constructor(readonly kind: Kind) {
    super(
      kind === 'silent' ? 'a generic worker did not come up' : 'this worker has no way to be given a function later',
    );
  }
}

/** The provider's part. */
export interface PoolSource<M extends PoolMember> {
  /**
   * Starts a generic worker that knows the token's digest and ends by itself when nobody renews its lease. Leaves
   * nothing behind when it fails.
   */
  start(token: OneTimeToken, signal: AbortSignal, leaseMs: number): Promise<M>;
  /** Ends one; already gone is success. */
  remove(member: M): Promise<void>;
  /** Whether a worker that does not answer has ended. Asked now and then while it starts; unset: unknown. */
  hasEnded?(member: M): Promise<boolean>;
  /** For how many more than `members` there is memory; below zero when there are too many. */
  room(members: number): Promise<number>;
  /** Of the machine on which they start; unset where that is another one. */
  readonly processors?: Pick<IdleProcessors, 'share'> | undefined;
  /** Replicas wait for a slot to start in: the pool's own workers come after them. */
  readonly mustWait?: boolean;
}

/**
 * Keeps generic workers ready. Each belongs to this manager alone, which holds its token in memory only: when the
 * manager dies, they end by themselves as nobody renews their lease. One that was taken never comes back.
 */
export class WarmPool<M extends PoolMember> implements PoolReport {
  private readonly ready: M[] = [];
  private readonly coming = new Set<Promise<void>>();
  private readonly closing = new AbortController();
  private readonly renewMs: number;
  private asked: number[] = [];
  private rushSince = 0;
  private target = 0;
  private rests = false;
  private hits = 0;
  private misses = 0;
  private readonly share = new FairShare();
  private readonly upSince = new WeakMap<M, number>();
  private readonly takenAt = new WeakMap<M, number>();
  private readonly listeners: StageListener[] = [];
  private failures = 0;
  private notBefore = 0;
  private renewedAt = 0;
  private timer: NodeJS.Timeout | undefined;
  private due = Infinity;
  private takenSince: number | undefined;
  private replaceDue: number | undefined;
  private keeping: Promise<void> | undefined;

  constructor(
    private readonly source: PoolSource<M>,
    private readonly size: number,
    private readonly logger: Logger,
    private readonly leaseMs = LEASE_MS,
    private readonly longestWaitMs = LONGEST_WAIT_MS,
  ) {
    this.renewMs = leaseMs / RENEWALS_PER_LEASE;
  }

  /** Begins to fill the pool; does nothing when it has begun, was closed, or is configured away. */
  start(): void {
    if (this.timer === undefined && this.keeping === undefined) this.keepIn(0);
  }

  /**
   * A ready worker that is the caller's from now on, to be given a function or removed.
   *
   * @param scalesUp the function that has replicas and wants one more: it has a fair share only
   */
  take(scalesUp?: FunctionId): M | undefined {
    if (this.size === 0 || this.closing.signal.aborted) return undefined;
    const now = Date.now();
    // Shorter pauses belong to it: a rush of many short ones would never have others started.
    if (now - this.lastAsked > BURST_MS) this.rushSince = now;
    this.asked.push(now);
    const isGranted = scalesUp === undefined || this.share.grant(scalesUp, this.ready.length, this.target);
    const member = isGranted ? this.ready.shift() : undefined;
    this.replaceSoon();
    if (member === undefined) this.misses += 1;
    else {
      this.hits += 1;
      this.takenAt.set(member, performance.now());
    }
    return member;
  }

  get hasReady(): boolean {
    return this.ready.length > 0;
  }

  /**
   * Gives a worker that was taken its function. Whatever comes of it, it can't be used for another one.
   *
   * @param address where it answers by now
   */
  async specialise(
    member: M,
    what: Specialisation,
    signal: AbortSignal,
    address: EndpointAddress = member.address,
  ): Promise<void> {
    const begun = performance.now();
    this.tell('take', begun - (this.takenAt.get(member) ?? begun));
    await specialise(address, member.token, what, signal);
    this.tell('specialise', performance.now() - begun);
  }

  /**
   * One that is started for the caller alone, where none is ready: it needs no place in the pool. Rejects with
   * {@link NotGeneric}, or with what the engine has against it, and leaves nothing behind then.
   */
  async make(signal: AbortSignal): Promise<M> {
    // A worker that comes up too late ends by itself, as nobody renews its lease.
    const member = await within('a start', { ms: START_MS }, () =>
      this.source.start(oneTimeToken(), signal, this.leaseMs),
    );
    const kind = await this.whenUp(member, signal).catch(() => 'silent' as const);
    if (kind === 'generic' && !signal.aborted) return member;
    await this.drop(member);
    signal.throwIfAborted();
    throw new NotGeneric(kind);
  }

  counts(): PoolCounts {
    const { target, hits, misses } = this;
    return { ready: this.ready.length, target, hits, misses };
  }

  onStage(listener: StageListener): void {
    this.listeners.push(listener);
  }

  rest(rests: boolean): void {
    if (rests === this.rests) return;
    this.rests = rests;
    if (this.keeping !== undefined || this.timer !== undefined) this.keepIn(0);
  }

  has(id: string): boolean {
    return this.ready.some((member) => member.id === id);
  }

  /** Ends what is in the pool, within a few seconds. */
  async close(): Promise<void> {
    this.closing.abort();
    clearTimeout(this.timer);
    const ending = async () => {
      await Promise.allSettled([this.keeping, ...this.coming]);
      await Promise.allSettled(this.ready.splice(0).map((member) => this.source.remove(member)));
    };
    await Promise.race([ending(), delay(CLOSE_MS, undefined, { ref: false })]);
  }

  private tell(stage: WarmStage, ms: number): void {
    for (const listener of this.listeners) listener(stage, ms);
  }

  private keepIn(ms: number): void {
    const due = Date.now() + ms;
    if (this.size === 0 || this.closing.signal.aborted || due >= this.due) return;
    clearTimeout(this.timer);
    this.due = due;
    this.timer = setTimeout(() => void this.keep(), ms).unref();
  }

  /** Once nothing has been taken for a moment. */
  private replaceSoon(): void {
    const now = Date.now();
    if (this.takenSince === undefined) this.takenSince = now;
    else if (this.replaceDue === this.due) this.due = Infinity;
    this.keepIn(Math.max(0, Math.min(REPLACE_AFTER_MS, this.takenSince + REPLACE_WITHIN_MS - now)));
    this.replaceDue = this.due;
  }

  private async keep(): Promise<void> {
    this.due = Infinity;
    this.takenSince = undefined;
    // One round at a time; the one under way may not see what changed meanwhile.
    if (this.keeping !== undefined) return this.keepIn(REPLACE_AFTER_MS);
    this.keeping = within('a round', { ms: ROUND_MS }, () => this.round())
      .catch((error: unknown) => this.logger.warn({ err: error }, 'a round of the warm pool failed'))
      .finally(() => (this.keeping = undefined));
    await this.keeping;
    this.keepIn(this.renewMs);
  }

  private async round(): Promise<void> {
    const now = Date.now();
    this.asked = this.asked.filter((at) => now - at < DEMAND_WINDOW_MS);
    if (now - this.renewedAt >= this.renewMs) {
      this.renewedAt = now;
      // Not all at once: that would be felt by the calls.
      const members = [...this.ready];
      while (members.length > 0) await Promise.all(members.splice(0, RENEWED_AT_ONCE).map((one) => this.renew(one)));
      await this.retireOldest(now);
    }
    const room = this.rests ? 0 : await this.source.room(this.ready.length + this.coming.size);
    if (this.closing.signal.aborted) return;
    const members = this.ready.length + this.coming.size;
    const target = poolTarget({ size: this.rests ? 0 : this.size, recent: this.asked.length, room, members });
    this.target = target;
    for (const surplus of this.ready.splice(Math.max(0, target - this.coming.size))) await this.drop(surplus);
    if (now < this.notBefore) return;
    const missing = target - this.ready.length - this.coming.size;
    if (missing > 0 && this.mustWait()) return this.keepIn(ASK_AGAIN_MS);
    const atOnce = this.ready.length > 0 ? 1 : STARTS_AT_ONCE;
    for (let count = Math.min(missing, atOnce - this.coming.size); count > 0; count -= 1) this.bring();
  }

  /** Workers that wait are started when nothing else needs the processors; where there are few, once a burst is over. */
  private mustWait(): boolean {
    const idle = this.source.processors?.share();
    if (this.source.mustWait === true) return true;
    const now = Date.now();
    const isRush = now - this.lastAsked < RUSH_IS_OVER_MS;
    const isBurst = isRush && now - this.rushSince < BURST_MS;
    if (isBurst && idle !== undefined && this.target >= ENOUGH) return true;
    if (this.ready.length < Math.max(ENOUGH, this.target / 2)) return false;
    return isRush || (idle ?? 1) < LEAST_IDLE;
  }

  private get lastAsked(): number {
    return this.asked.at(-1) ?? 0;
  }

  private async renew(member: M): Promise<void> {
    if ((await kindOf(member.address, member.call.token)) === 'generic') return;
    const index = this.ready.indexOf(member);
    // Taken meanwhile.
    if (index === -1) return;
    this.ready.splice(index, 1);
    await this.drop(member);
  }

  /** One in each round, so that the others stay ready. */
  private async retireOldest(now: number): Promise<void> {
    const [oldest] = this.ready;
    if (oldest === undefined || now - (this.upSince.get(oldest) ?? now) < this.longestWaitMs) return;
    this.ready.shift();
    await this.drop(oldest);
  }

  private bring(): void {
    const coming = this.startOne()
      .catch((error: unknown) => this.fail(error))
      .finally(() => {
        this.coming.delete(coming);
        this.keepIn(Math.max(0, this.notBefore - Date.now()));
      });
    this.coming.add(coming);
  }

  private async startOne(): Promise<void> {
    const { signal } = this.closing;
    const member = await this.make(signal);
    if (signal.aborted) return this.drop(member);
    this.failures = 0;
    this.upSince.set(member, Date.now());
    this.ready.push(member);
    this.logger.debug({ member: member.id.slice(0, 24), ready: this.ready.length }, 'generic worker ready');
  }

  private async whenUp(member: M, signal: AbortSignal): Promise<Kind> {
    const deadline = Date.now() + UP_MS;
    for (let pause = FIRST_LOOK_MS; Date.now() < deadline; pause = Math.min(pause * 1.3, LAST_LOOK_MS)) {
      const askedAt = Date.now();
      const kind = await kindOf(member.address, member.call.token);
      if (kind !== 'silent') return kind;
      // Nobody refuses at the address of one that is gone.
      const isUnheard = Date.now() - askedAt >= UNHEARD_MS;
      if ((isUnheard || pause >= LAST_LOOK_MS) && (await this.source.hasEnded?.(member)) === true) return 'silent';
      await delay(pause, undefined, { signal });
    }
    return 'silent';
  }

  /** Functions start cold meanwhile. */
  private fail(error: unknown): void {
    if (this.closing.signal.aborted) return;
    const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** this.failures, LONGEST_PAUSE_MS);
    this.failures += 1;
    this.notBefore = Date.now() + pauseMs;
    this.logger.warn({ err: error, pauseMs }, 'no generic worker could be started; whatever needs one starts cold');
  }

  private async drop(member: M): Promise<void> {
    try {
      await this.source.remove(member);
    } catch (error) {
      // It ends by itself when its lease has run out, and is swept then.
      this.logger.debug({ err: error, member: member.id.slice(0, 24) }, 'generic worker not removed');
    }
  }
}
