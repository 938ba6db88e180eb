import type { ReconcileConfig } from '#libs/config/config.js';
import { RECONCILE_CONFIG } from '#libs/config/config.module.js';
import { Inject, Injectable } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { FunctionBus } from './function-bus.js';
import { type Claim, FunctionRepository, type Lease } from './function.repository.js';

/**
 * The lease of a step that begins with its request: most take hundredths of a second, and when the manager dies during
 * one, the next call waits for the end of the lease.
 */
const LEASE_MS = 3_000;

/** What a statement wrote under a lease, or would have. */
export type Written = Pick<Claim, 'row' | 'revision' | 'isFresh'>;

/** How many steps this manager makes at once. */
@Injectable()
export class StepSlots {
  private taken = 0;
  private isClosed = false;
  /** Another manager has newer settings: no step begins here. */
  isOutdated = false;
  /** What the database is to know as the newest settings for a step to begin here; undefined: whatever it knows. */
  settingsSha256: string | undefined;

  constructor(@Inject(RECONCILE_CONFIG) private readonly config: Pick<ReconcileConfig, 'concurrency'>) {}

  get free(): number {
    return this.isOutdated ? 0 : this.config.concurrency - this.taken;
  }

  take(): void {
    this.taken += 1;
  }

  release(): void {
    this.taken -= 1;
  }

  /** False where none is free, and in a manager that is leaving. */
  takeForRequest(): boolean {
    if (this.isClosed || this.free <= 0) return false;
    this.take();
    return true;
  }

  closeForRequests(): void {
    this.isClosed = true;
  }
}

/**
 * The short way from a request to its step: the statement that writes what is wanted takes the lease too, and the step
 * begins in this manager without a notification. The row stays the truth: if this manager has no slot or dies, or
 * another one has the lease, the row is due as usual.
 */
@Injectable()
export class InlineReconciler {
  constructor(
    private readonly repository: FunctionRepository,
    private readonly slots: StepSlots,
    private readonly bus: FunctionBus,
    @Inject(RECONCILE_CONFIG) private readonly config: Pick<ReconcileConfig, 'leaseMs'>,
  ) {}

  /** Resolves with what `statement` does: without a row when there was nothing to write. */
  async write<T extends Partial<Written> | undefined>(
    id: string,
    statement: (lease: Lease | undefined) => Promise<T>,
  ): Promise<T> {
    if (!this.slots.takeForRequest()) return statement(undefined);
    const { settingsSha256 } = this.slots;
    const lease = { token: randomUUID(), ms: Math.min(this.config.leaseMs, LEASE_MS), settingsSha256 };
    let isClaimed = false;
    try {
      const written = await statement(lease);
      const { row, revision, isFresh } = written ?? {};
      if (row?.leaseToken === lease.token) {
        isClaimed = true;
        const { token } = lease;
        this.bus.emit('claimed', { row, ...(revision && { revision }), isFresh, token, lateMs: 0 }, lease.ms);
      }
      return written;
    } catch (error) {
      // It may have been written nevertheless, and then nobody else would act before the lease ends.
      this.repository.release({ row: { id }, token: lease.token }).catch(() => undefined);
      throw error;
    } finally {
      if (!isClaimed) {
        this.slots.release();
        this.bus.emit('slotFree');
      }
    }
  }
}
