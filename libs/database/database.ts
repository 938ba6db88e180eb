import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { Injectable } from '@nestjs/common';
import pg, { type Pool, type PoolClient } from 'pg';
import { DataSource } from 'typeorm';
import { copyIn } from './copy-in.js';
import { isConnectionFault } from './connection-fault.js';
import { StatementNames } from './statement-names.js';

/** A statement inside of a transaction. */
export type Ask = <Row>(sql: string, parameters?: readonly unknown[]) => Promise<Row[]>;

/** Rows in PostgreSQL's binary format, for `COPY … FROM STDIN`, inside of a transaction. */
export type Copy = (sql: string, rows: Buffer) => Promise<void>;

const MOST_TRIES = 5;
/** Whoever reads or writes waits behind a statement that waits for a lock on a whole table. */
const LOCK_TIMEOUT = '1s';

/**
 * The one way to PostgreSQL: connection faults become {@link DatabaseUnavailable}. The pool opens new connections by
 * itself, so a database that comes back needs no restart.
 */
@Injectable()
export class Database {
  private readonly names = new StatementNames();

  constructor(private readonly source: DataSource) {}

  /** Runs `work`, which asks the database for something. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw isConnectionFault(error) ? new DatabaseUnavailable(error) : error;
    }
  }

  /**
   * Runs `work` inside one transaction.
   *
   * @param work with `isRepeatable` its statements are prepared, and all of it is done anew where one of them fails for
   * that, or to end a deadlock: nothing of it may be felt outside of the transaction
   */
  transaction<T>(work: (ask: Ask, copy: Copy) => Promise<T>, { isRepeatable = false } = {}): Promise<T> {
    return this.run(() =>
      this.connected(async (client) => {
        for (let tries = 1; ; tries += 1) {
          const mayFail = isRepeatable && tries < MOST_TRIES;
          let isToBlame = false;
          const ask: Ask = async <Row>(text: string, parameters: readonly unknown[] = []) => {
            const name = mayFail ? this.names.of(text) : undefined;
            try {
              return await rowsOf<Row>(client, text, parameters, name);
            } catch (error) {
              if (name !== undefined) isToBlame ||= this.names.areToBlame(error, name);
              throw error;
            }
          };
          await client.query('BEGIN');
          try {
            const result = await work(ask, (text, rows) => copyIn(client, text, rows));
            await client.query('COMMIT');
            return result;
          } catch (error) {
            if (isConnectionFault(error)) throw error;
            await client.query('ROLLBACK');
            if (!isToBlame && !(mayFail && isDeadlock(error))) throw error;
          }
        }
      }),
    );
  }

  /**
   * Runs `work`, which changes whole tables, inside one transaction: of all managers one at a time does so under this
   * lock. It fails where it would wait for a table for longer than others may wait behind it.
   */
  alone<T>(lock: number, work: (ask: Ask) => Promise<T>): Promise<T> {
    return this.transaction(async (ask) => {
      await ask(`SET LOCAL lock_timeout = '${LOCK_TIMEOUT}'`);
      await ask('SELECT pg_advisory_xact_lock($1)', [lock]);
      return work(ask);
    });
  }

  /** Rows of one explicit statement, whose text should hold no values. */
  query<Row>(sql: string, parameters: readonly unknown[] = []): Promise<Row[]> {
    return this.run(async () => {
      for (let tries = 1; ; tries += 1) {
        try {
          return await this.connected((client) => this.ask<Row>(client, sql, parameters));
        } catch (error) {
          if (!isDeadlock(error) || tries === MOST_TRIES) throw error;
        }
      }
    });
  }

  private async ask<Row>(client: PoolClient, text: string, values: readonly unknown[]): Promise<Row[]> {
    const name = this.names.of(text);
    return rowsOf<Row>(client, text, values, name).catch((error: unknown) => {
      if (name !== undefined && this.names.areToBlame(error, name)) return rowsOf<Row>(client, text, values);
      throw error;
    });
  }

  /** By TypeORM's pool and past its query runner, which can't prepare a statement. */
  private async connected<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
    const { master: pool } = this.source.driver as unknown as { readonly master: Pool | undefined };
    if (pool === undefined) throw new DatabaseUnavailable(new Error('The connections have been closed.'));
    const client = await pool.connect();
    let broken: Error | undefined;
    try {
      return await work(client);
    } catch (error) {
      // Its answer may still come, to the next one's question.
      if (isConnectionFault(error)) broken = error as Error;
      throw error;
    } finally {
      client.release(broken);
    }
  }

  async ping(): Promise<void> {
    await this.query('SELECT 1');
  }
}

async function rowsOf<Row>(client: PoolClient, text: string, values: readonly unknown[], name?: string) {
  return (await client.query({ text, values: [...values], ...(name !== undefined && { name }) })).rows as Row[];
}

/**
 * Two statements that wait for the same version of a row can do so for each other, in whichever order they lock rows;
 * PostgreSQL undoes all of one of them
 * (https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-DEADLOCKS).
 */
function isDeadlock(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === '40P01';
}
