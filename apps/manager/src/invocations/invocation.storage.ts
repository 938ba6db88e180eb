import { Database } from '#libs/database/database.js';
import { Injectable } from '@nestjs/common';
import { dayOf, type DayPartition, firstIdOf, partitionOf } from './days.js';

/** One manager at a time changes partitions. */
const LOCK = 7_013_271;
/** Statements for rows wait behind one that waits for a lock on the whole table. */
const LOCK_TIMEOUT = '1s';
const AT_ONCE = 1_000;

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
      const sql = `CREATE TABLE IF NOT EXISTS ${name} PARTITION OF invocations FOR VALUES FROM ('${from}') TO ('${to}')`;
      try {
        await this.exclusively(sql);
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
    const [kept] = await this.database.query(
      `SELECT FROM ${name} WHERE status IN ('waiting', 'running') OR callback_due_at IS NOT NULL
         OR ended_at > now() - ${Math.trunc(retentionMs)} * interval '1 millisecond' LIMIT 1`,
    );
    if (kept !== undefined) return false;
    return this.exclusively(`DROP TABLE IF EXISTS ${name}`).then(
      () => true,
      () => false,
    );
  }

  /** Removes what has ended too long ago of calls that came before `before` and whose partition stays. Answers how many. */
  async forget(before: Date, retentionMs: number): Promise<number> {
    const rows = await this.database.query(
      `DELETE FROM invocations WHERE id = ANY (ARRAY(
         SELECT id FROM invocations
         WHERE id < $1 AND ended_at < now() - $2 * interval '1 millisecond' AND callback_due_at IS NULL LIMIT ${AT_ONCE}
       )) RETURNING id`,
      [firstIdOf(before), retentionMs],
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
      await this.database.query('DELETE FROM invocation_queues WHERE function_id = $1', [id]);
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
           AND NOT EXISTS (SELECT FROM invocations WHERE id = invocation_id) LIMIT ${AT_ONCE}
       ) RETURNING key`,
      [retentionMs],
    );
    return rows.length;
  }

  private async exclusively(sql: string): Promise<void> {
    await this.database.transaction(async (ask) => {
      await ask(`SET LOCAL lock_timeout = '${LOCK_TIMEOUT}'`);
      await ask('SELECT pg_advisory_xact_lock($1)', [LOCK]);
      await ask(sql);
    });
  }
}
