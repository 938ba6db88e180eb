import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { Injectable } from '@nestjs/common';
import { DataSource, type EntityManager } from 'typeorm';
import { isConnectionFault } from './connection-fault.js';

/**
 * The one way to PostgreSQL: connection faults become {@link DatabaseUnavailable}. The pool opens new connections by
 * itself, so a database that comes back needs no restart.
 */
@Injectable()
export class Database {
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

  /** Rows of one explicit statement. */
  async query<Row>(sql: string, parameters: readonly unknown[] = []): Promise<Row[]> {
    return this.run(async (manager) => {
      const result: unknown = await manager.query(sql, [...parameters]);
      // TypeORM answers [rows, count] for UPDATE and DELETE, and the rows alone for everything else.
      if (Array.isArray(result) && result.length === 2 && Array.isArray(result[0]) && typeof result[1] === 'number') {
        return result[0] as Row[];
      }
      return result as Row[];
    });
  }

  async ping(): Promise<void> {
    await this.query('SELECT 1');
  }
}
