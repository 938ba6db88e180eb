import { type Ask, Database } from '#libs/database/database.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Injectable } from '@nestjs/common';
import { FunctionNotFound, FunctionNotReady, VersionOutdated } from './errors.js';
import { ALL_COLUMNS, type FunctionEntity } from './function.entity.js';
import { IN_LOCK_ORDER } from './function.repository.js';

/** A function whose rows nobody else changes while a transaction lasts. */
export interface LockedFunction {
  readonly row: FunctionEntity;
  /** The rows that run revisions of it beside its own workers, without those that are being removed. */
  readonly workloads: readonly FunctionEntity[];
  readonly ask: Ask;
}

const LOCK = `SELECT id FROM functions WHERE id = $1 OR workload_of = $1 ${IN_LOCK_ORDER}`;
const LOCKED = `SELECT ${ALL_COLUMNS} FROM functions WHERE id = $1 OR workload_of = $1 ORDER BY id`;

/** Changes that need more than one statement. */
@Injectable()
export class FunctionLock {
  constructor(private readonly database: Database) {}

  /** Runs `work` unless the function is gone. It may be run twice, and must do nothing but ask. */
  async with<T>(id: FunctionId, work: (locked: LockedFunction) => Promise<T>): Promise<T | undefined> {
    const locked = async (ask: Ask) => {
      // What waits for a lock sees the locked row as it is, but none that were added meanwhile.
      await ask(LOCK, [id]);
      const rows = await ask<FunctionEntity>(LOCKED, [id]);
      const row = rows.find((one) => one.id === id);
      if (row === undefined) return undefined;
      return work({ row, workloads: rows.filter((one) => one !== row && one.deletedAt === null), ask });
    };
    return this.database.transaction(locked, { isRepeatable: true });
  }

  /**
   * Runs `work` on a function that is there and ready for changes. Throws {@link FunctionNotFound},
   * {@link VersionOutdated} where it has none of `versions`, or {@link FunctionNotReady}.
   */
  async changing<T>(
    id: FunctionId,
    versions: readonly number[] | undefined,
    work: (locked: LockedFunction) => Promise<T>,
  ): Promise<T> {
    const done = await this.with(id, async (locked) => {
      const { row } = locked;
      if (row.deletedAt !== null || row.workloadOf !== null) throw new FunctionNotFound(id);
      if (versions?.includes(row.version) === false) throw new VersionOutdated(id, row.version);
      if (row.provisionalUntil !== null) throw new FunctionNotReady(id, 'its upload is not through.');
      return { result: await work(locked) };
    });
    if (done === undefined) throw new FunctionNotFound(id);
    return done.result;
  }
}
