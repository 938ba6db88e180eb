import { Injectable } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { type Claim, FunctionRepository, type Lease } from './function.repository.js';

/** A place among the steps of this manager; given back, or filled with what was claimed. */
export interface StepPlace {
  readonly leaseMs: number;
  begin(claim: Claim): void;
  giveBack(): void;
}

/** Whoever makes the steps of this manager; undefined when it has no place for one more. */
export type StepPlaces = () => StepPlace | undefined;

/** What a statement wrote under a lease, or would have: `undefined` when there was nothing to write. */
export type Written = Pick<Claim, 'row' | 'revision' | 'isFresh'>;

/**
 * The short way from a request to its step: the statement that writes what is wanted takes the lease as well, and the
 * step begins here without a notification. The row remains the truth: where this manager has no place, somebody else
 * holds the row, or this manager dies, it is due as ever.
 */
@Injectable()
export class InlineReconciler {
  private places: StepPlaces = () => undefined;

  constructor(private readonly repository: FunctionRepository) {}

  madeBy(places: StepPlaces): void {
    this.places = places;
  }

  async write(id: string, statement: (lease: Lease | undefined) => Promise<Written | undefined>) {
    const place = this.places();
    if (place === undefined) return statement(undefined);
    const { leaseMs } = place;
    const lease = { token: randomUUID(), ms: leaseMs };
    try {
      const written = await statement(lease);
      if (written?.row.leaseToken === lease.token) place.begin({ ...written, token: lease.token, lateMs: 0 });
      return written;
    } catch (error) {
      // It may have been written all the same: then nobody else would act before the lease ends.
      this.repository.release({ row: { id }, token: lease.token }).catch(() => undefined);
      throw error;
    } finally {
      place.giveBack();
    }
  }
}
