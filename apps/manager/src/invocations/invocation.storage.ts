import { Database } from '#libs/database/database.js';
import { Injectable } from '@nestjs/common';
import { dayOf, type DayPartition, firstIdOf, partitionOf } from './days.js';

/** One manager at a time changes partitions. */
const LOCK = 7_013_271;
const LOCK_NOT_AVAILABLE = '55P03';
const AT_ONCE = 1_000;
/** They are small. */
const KEYS_AT_ONCE = 10_000;

/** It is the same in every statement of an installation. */
const interval = (ms: number) => `${Math.trunc(ms)} * interval '1 millisecond'`;

/** What keeps calls for later: partitions by day, and what belongs to none. */
@Injectable()
export class InvocationStorage {
  constructor(private readonly database: Database) {}

  /**
   * Makes the partitions of these days that there aren't. Answers why one couldn't be made, most likely because the
   * default one has rows of that day, where they are as good; undefined: all are there.
   */
  async ensure(days: readonly Date[]): Promise<string | undefined> {
    const there = new Set((await this.partitions()).map(({ name }) => name));
    let fault: string | undefined;
    for (const day of days) {
      const { name, from, to } = partitionOf(day);
      if (there.has(name)) continue;
      // Making it locks the whole table, and reads all of the default partition, to find out.
      const [own] = await this.database.query('SELECT FROM invocations_others WHERE id >= $1 AND id < $2 LIMIT 1', [
        from,
        to,
      ]);
      if (own !== undefined) {
        fault = `invocations_others has calls of ${name}`;
        continue;
      }
      try {
        await this.database.alone(LOCK, (ask) =>
          ask(`CREATE TABLE IF NOT EXISTS ${name} PARTITION OF invocations FOR VALUES FROM ('${from}') TO ('${to}')`),
        );
      } catch (error) {
        fault = (error as Error).message;
      }
    }
    return fault;
  }

  /** The partitions of days, the oldest first. */
  async partitions(): Promise<DayPartition[]> {
    const rows = await this.database.query<{ name: string }>(
      `SELECT child.relname AS name FROM pg_inherits
         JOIN pg_class AS child ON child.oid = inhrelid JOIN pg_class AS parent ON parent.oid = inhparent
       WHERE parent.oid = to_regclass('invocations') AND child.relname ~ '^invocations_[0-9]{8}$'
       ORDER BY child.relname`,
    );
    return rows.map(({ name }) => partitionOf(dayOf(name)));
  }

  /**
   * Drops the partition of a day whose calls have all ended before, and not within the last `retentionMs`. False: it has
   * others, or is in use.
   */
  async drop({ name }: DayPartition, retentionMs: number): Promise<boolean> {
    const has = (condition: string) => `EXISTS (SELECT FROM ${name} WHERE ${condition})`;
    const [kept] = await this.database.query<{ isKept: boolean }>(
      `SELECT ${has("status = 'waiting'")} OR ${has("status = 'running'")}
         OR ${has(`ended_at > now() - ${interval(retentionMs)} OR NOT ${isTold(retentionMs)}`)} AS "isKept"`,
    );
    if (kept?.isKept !== false) return false;
    try {
      return await this.database.alone(LOCK, async (ask) => {
        // A redrive may have let some of them wait again since.
        await ask('LOCK TABLE ONLY invocations IN ACCESS EXCLUSIVE MODE');
        const [again] = await ask<{ isKept: boolean }>(
          `SELECT ${has("status = 'waiting'")} OR ${has("status = 'running'")} AS "isKept"`,
        );
        if (again?.isKept !== false) return false;
        await ask(`DROP TABLE ${name}`);
        return true;
      });
    } catch (error) {
      if ((error as { code?: unknown }).code === LOCK_NOT_AVAILABLE) return false;
      throw error;
    }
  }

  /** Removes what has ended too long ago of calls that came before `before` and whose partition stays. Answers how many. */
  async forget(before: Date, retentionMs: number): Promise<number> {
    // One that a redrive lets wait again at this moment is left alone.
    const rows = await this.database.query(
      `DELETE FROM invocations WHERE id = ANY (ARRAY(
         SELECT id FROM invocations
         WHERE id < $1 AND ended_at < now() - ${interval(retentionMs)} AND ${isTold(retentionMs)}
         LIMIT ${AT_ONCE} FOR UPDATE SKIP LOCKED
       )) RETURNING id`,
      [firstIdOf(before)],
    );
    return rows.length;
  }

  /** Removes calls of functions that are gone, and then what was counted of them. Answers how many rows went. */
  async forgetFunctions(): Promise<number> {
    const gone = await this.database.query<{ id: string }>(
      `SELECT function_id AS id FROM invocation_queues
       WHERE NOT EXISTS (SELECT FROM functions WHERE id = function_id) LIMIT 100`,
    );
    let removed = 0;
    for (const { id } of gone) {
      const calls = await this.database.query(
        `DELETE FROM invocations WHERE id = ANY (ARRAY(
           SELECT id FROM invocations WHERE function_id = $1 LIMIT ${AT_ONCE})) RETURNING id`,
        [id],
      );
      removed += calls.length;
      if (calls.length === AT_ONCE) continue;
      await this.database.query('DELETE FROM invocation_keys WHERE function_id = $1', [id]);
      await this.database.query(
        `DELETE FROM invocation_queues WHERE function_id = $1
           AND NOT EXISTS (SELECT FROM invocations WHERE function_id = $1)`,
        [id],
      );
      removed += 1;
    }
    return removed;
  }

  /** Removes keys whose calls are gone. Answers how many. */
  async forgetKeys(retentionMs: number): Promise<number> {
    const rows = await this.database.query(
      `DELETE FROM invocation_keys WHERE (function_id, key) IN (
         SELECT function_id, key FROM invocation_keys
         WHERE created_at < now() - $1 * interval '1 millisecond'
           AND NOT EXISTS (SELECT FROM invocations WHERE id = invocation_id)
         LIMIT ${KEYS_AT_ONCE} FOR UPDATE SKIP LOCKED
       ) RETURNING key`,
      [retentionMs],
    );
    return rows.length;
  }
}

/** Nobody is to be told of its end any more. Whoever hasn't been for twice as long as it is kept won't be. */
function isTold(retentionMs: number): string {
  return `(callback_due_at IS NULL OR ended_at < now() - ${interval(2 * retentionMs)})`;
}
