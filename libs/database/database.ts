import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { Injectable } from '@nestjs/common';
import pg, { type Pool } from 'pg';
import { DataSource, type EntityManager } from 'typeorm';
import { isConnectionFault } from './connection-fault.js';
import { StatementNames } from './statement-names.js';

const MOST_TRIES = 5;

/**
 * The one way to PostgreSQL: connection faults become {@link DatabaseUnavailable}. The pool opens new connections by
 * itself, so a database that comes back needs no restart.
 */
@Injectable()
export class Database {
  private readonly names = new StatementNames();

  constructor(private readonly source: DataSource) {}

  /** Runs `work` with an entity manager outside a transaction. */
  async run<T>(work: (manager: EntityManager) => Promise<T>): Promise<T> {
    try {
      return await work(this.source.manager);
    } catch (error) {
      throw isConnectionFault(error) ? new DatabaseUnavailable(error) : error;
    }
  }

  /** Runs `work` inside one transaction. */
  async transaction<T>(work: (manager: EntityManager) => Promise<T>): Promise<T> {
    return this.run(() => this.source.transaction(work));
  }

  /** Rows of one explicit statement, whose text should hold no values. */
  query<Row>(sql: string, parameters: readonly unknown[] = []): Promise<Row[]> {
    return this.run(async () => {
      for (let tries = 1; ; tries += 1) {
        try {
          return await this.ask<Row>(sql, [...parameters]);
        } catch (error) {
          if (!isDeadlock(error) || tries === MOST_TRIES) throw error;
        }
      }
    });
  }

  /** By TypeORM's pool and past its query runner, which can't prepare a statement. */
  private async ask<Row>(text: string, values: unknown[]): Promise<Row[]> {
    const { master: pool } = this.source.driver as unknown as { readonly master: Pool | undefined };
    if (pool === undefined) throw new DatabaseUnavailable(new Error('The connections have been closed.'));
    const client = await pool.connect();
    let broken: Error | undefined;
    const send = async (name?: string) =>
      (await client.query({ text, values, ...(name !== undefined && { name }) })).rows as Row[];
    try {
      const name = this.names.of(text);
      return await send(name).catch((error: unknown) => {
        if (name !== undefined && this.names.areToBlame(error, name)) return send();
        throw error;
      });
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

/**
 * Two statements that wait for the same version of a row can do so for each other, in whichever order they lock rows;
 * PostgreSQL undoes all of one of them
 * (https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-DEADLOCKS).
 */
function isDeadlock(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === '40P01';
}
