import type { LimitsConfig } from '#libs/config/config.js';
import { LIMITS_CONFIG } from '#libs/config/config.module.js';
import { AppError } from '#libs/errors/app-error.js';
import { Metrics } from '#libs/observability/metrics.js';
import { Inject, Injectable } from '@nestjs/common';
import type { ServerResponse } from 'node:http';
import { Gauge } from 'prom-client';

/** What a request takes beside its body: the buffers of its socket, and its objects. */
const REQUEST_BYTES = 16 * 1024;
/** What else is in memory beside the largest request. */
const OVERHEAD_BYTES = 512 * 1024;
/** The largest part that the calls of one function may take. */
const FUNCTION_SHARE = 1 / 2;

const REASON = {
  manager_overloaded: (bytes: number) =>
    `This manager holds as many requests as its memory allows (${bytes} bytes). Try again, or add managers or raise MAX_HELD_BYTES.`,
  function_overloaded: (bytes: number) =>
    `The function's calls and their answers hold as much as one function may (${bytes} bytes). Try again, or send and read them faster.`,
};

/** Requests and answers keep as much in memory as they may: all of this manager's, or those of one function. */
export class MemoryExhausted extends AppError {
  readonly kind = 'saturated';
  override readonly retryAfterSeconds = 1;
  constructor(
    readonly code: keyof typeof REASON,
    limitBytes: number,
  ) {
    super(REASON[code](limitBytes), { extras: { limit_bytes: limitBytes }, isMany: true });
  }
}

/** What the calls of one function and their answers keep in memory. */
export class FunctionShare {
  held = 0;
}

/**
 * Limits what requests in flight and their answers keep in memory. Bytes count from their arrival, from callers and
 * from workers, until they are released. Announced bytes don't count: a few slow clients could keep everybody else out.
 */
@Injectable()
export class MemoryBudget {
  private held = 0;
  /** What answers without a reservation held when it was last measured. */
  private unsent = 0;
  private readonly limit: number;

  constructor(@Inject(LIMITS_CONFIG) { heldBytes }: Pick<LimitsConfig, 'heldBytes'>, { registry }: Metrics) {
    this.limit = heldBytes;
    const gauge = (name: string, help: string, value: () => number) =>
      new Gauge({
        name,
        help,
        registers: [registry],
        collect() {
          this.set(value());
        },
      });
    gauge('faas_held_bytes', 'Bytes of requests and answers kept in memory.', () => this.held + this.unsent);
    gauge('faas_held_bytes_limit', 'Most bytes of requests and answers kept in memory.', () => heldBytes);
  }

  /** The most that all may keep together, in bytes. */
  get limitBytes(): number {
    return this.limit;
  }

  /**
   * The factor for bytes that take so many times their size, lowered so that the largest request of its kind still
   * fits.
   */
  timesOf(times: number, largestBytes: number): number {
    return Math.max(1, Math.min(times, (this.limit - OVERHEAD_BYTES) / largestBytes));
  }

  /** Memory for one more request, until it is disposed of. Throws {@link MemoryExhausted} when there is none. */
  reserve(): MemoryReservation {
    const reservation = new MemoryReservation(this);
    reservation.begin();
    return reservation;
  }

  /** The same, disposed of when the response has been sent or its connection has ended. */
  reserveUntilClosed(response: ServerResponse): MemoryReservation {
    const reservation = this.reserve();
    if (response.destroyed) reservation[Symbol.dispose]();
    else response.once('close', () => reservation[Symbol.dispose]());
    return reservation;
  }

  take(bytes: number): void {
    if (this.held + this.unsent + bytes > this.limit) throw new MemoryExhausted('manager_overloaded', this.limit);
    this.held += bytes;
  }

  /**
   * Takes from a function's share, for a call that has `own` of it. Throws {@link MemoryExhausted} when the other calls
   * leave no room. A call that is alone may take more than the share.
   */
  takeShare(share: FunctionShare, own: number, bytes: number): void {
    const limit = this.limit * FUNCTION_SHARE;
    if (share.held + bytes > limit && share.held > own) throw new MemoryExhausted('function_overloaded', limit);
    share.held += bytes;
  }

  give(bytes: number): void {
    this.held -= bytes;
  }

  /** Sets what answers without a {@link MemoryReservation} hold. */
  noteUnsent(bytes: number): void {
    this.unsent = bytes;
  }
}

/** What one request and its answer keep in memory: nothing until it begins. */
export class MemoryReservation implements Disposable {
  private held = 0;
  private share: FunctionShare | undefined;
  private shared = 0;
  private isOver = false;

  constructor(private readonly all: MemoryBudget) {}

  /** Takes room for the request itself. Throws {@link MemoryExhausted} when there is none. */
  begin(): void {
    this.add(REQUEST_BYTES);
  }

  /** Throws {@link MemoryExhausted} when there is no room for it. */
  add(bytes: number): void {
    // Bytes that arrive after the end are not kept.
    if (this.isOver) return;
    this.all.take(bytes);
    this.held += bytes;
    if (this.share === undefined) return;
    this.all.takeShare(this.share, this.shared, bytes);
    this.shared += bytes;
  }

  /** What is added from now on counts in a function's share too. */
  countFor(share: FunctionShare): void {
    this.share = share;
  }

  [Symbol.dispose](): void {
    this.isOver = true;
    this.all.give(this.held);
    this.held = 0;
    if (this.share !== undefined) this.share.held -= this.shared;
    this.shared = 0;
  }
}
