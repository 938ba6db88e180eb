import { setTimeout as delay } from 'node:timers/promises';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import type { Logger } from 'pino';
import { DataSource, type EntityManager, type MixedList } from 'typeorm';
import { isConnectionFault } from './connection-fault.js';

export interface DatabaseOptions {
  readonly poolSize: number;
  readonly entities: MixedList<Function>;
  readonly migrations: MixedList<Function>;
  readonly logger: Logger;
}

const CONNECT_TIMEOUT_MS = 3_000;
const STATEMENT_TIMEOUT_MS = 15_000;
const BOOT_DEADLINE_MS = 60_000;

/**
 * The one way to PostgreSQL: a TypeORM data source whose connection faults become {@link DatabaseUnavailable}. The pool
 * opens new connections by itself, so a database that comes back needs no restart.
 */
export class Database {
  private constructor(private readonly source: DataSource) {}

  /** Waits for the server up to a minute, then brings the schema up to date. Safe with many managers at once. */
  static async open(url: string, options: DatabaseOptions, signal: AbortSignal): Promise<Database> {
    const source = new DataSource({
      type: 'postgres',
      url,
      entities: options.entities,
      migrations: options.migrations,
      migrationsTransactionMode: 'each',
      synchronize: false,
      logging: false,
      poolSize: options.poolSize,
      connectTimeoutMS: CONNECT_TIMEOUT_MS,
      applicationName: 'service-faas',
      extra: {
        statement_timeout: STATEMENT_TIMEOUT_MS,
        query_timeout: STATEMENT_TIMEOUT_MS + 2_000,
        keepAlive: true,
      },
      poolErrorHandler: (error: unknown) => options.logger.warn({ err: error }, 'database connection lost'),
    });
    const deadline = Date.now() + BOOT_DEADLINE_MS;
    for (;;) {
      try {
        await source.initialize();
        break;
      } catch (error) {
        if (!isConnectionFault(error) || Date.now() > deadline) throw error;
        options.logger.warn({ reason: (error as Error).message }, 'waiting for the database');
        await delay(1_000, undefined, { signal });
      }
    }
    const database = new Database(source);
    await database.migrate();
    return database;
  }

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

  async close(): Promise<void> {
    if (this.source.isInitialized) await this.source.destroy();
  }

  /** Holds an advisory lock, so that of many managers booting at once one migrates and the others wait. */
  private async migrate(): Promise<void> {
    const runner = this.source.createQueryRunner();
    try {
      await runner.query('SELECT pg_advisory_lock(7013254)');
      await this.source.runMigrations();
    } finally {
      await runner.query('SELECT pg_advisory_unlock(7013254)').catch(() => undefined);
      await runner.release();
    }
  }
}
