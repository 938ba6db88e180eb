import { setTimeout as delay } from 'node:timers/promises';
import type { ClientBase } from 'pg';
import pgConnectionString from 'pg-connection-string';
import type { Logger } from 'pino';
import { DataSource, type DataSourceOptions, type MixedList } from 'typeorm';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { isConnectionFault } from './connection-fault.js';
import { Functions1764000000000 } from './migrations/1764000000000-functions.js';
import { Engines1764050000000 } from './migrations/1764050000000-engines.js';
import { Postponed1764060000000 } from './migrations/1764060000000-postponed.js';
import { Scale1764070000000 } from './migrations/1764070000000-scale.js';
import { Leased1764080000000 } from './migrations/1764080000000-leased.js';
import { LayerArchives1764180000000 } from './migrations/1764180000000-layer-archives.js';
import { History1764220000000 } from './migrations/1764220000000-history.js';
import { HistoryWriters1764250000000 } from './migrations/1764250000000-history-writers.js';
import { Http1764185000000 } from './migrations/1764185000000-http.js';
import { Invocations1764200000000 } from './migrations/1764200000000-invocations.js';
import { Schedules1764210000000 } from './migrations/1764210000000-schedules.js';
import { ScheduledInvocations1764211000000 } from './migrations/1764211000000-scheduled-invocations.js';
import { InvocationPolicy1764230000000 } from './migrations/1764230000000-invocation-policy.js';
import { CallbackIds1764240000000 } from './migrations/1764240000000-callback-ids.js';
import { Layers1764160000000 } from './migrations/1764160000000-layers.js';
import { Names1764110000000 } from './migrations/1764110000000-names.js';
import { Revisions1764140000000 } from './migrations/1764140000000-revisions.js';
import { Traffic1764170000000 } from './migrations/1764170000000-traffic.js';
import { RevisionTimes1764175000000 } from './migrations/1764175000000-revision-times.js';
import { Runs1764176000000 } from './migrations/1764176000000-runs.js';
import { Secrets1764150000000 } from './migrations/1764150000000-secrets.js';
import { Settings1764100000000 } from './migrations/1764100000000-settings.js';
import { Spec1764130000000 } from './migrations/1764130000000-spec.js';
import { Logs1764120000000 } from './migrations/1764120000000-logs.js';
import { WorkerKey1764090000000 } from './migrations/1764090000000-worker-key.js';

const CONNECT_TIMEOUT_MS = 3_000;
const STATEMENT_TIMEOUT_MS = 15_000;
/** A manager that stands still in a transaction, or has been cut off, gives back what it has locked. */
const IDLE_TIMEOUT_MS = 10_000;
/** Kept open: a server needs milliseconds to take one up, which calls would wait for that come all at once. */
const KEPT_CONNECTIONS = 4;
const BOOT_DEADLINE_MS = 60_000;
const MIGRATION_LOCK = 7_013_254;

const CONNECTION = {
  /**
   * Neither the pool nor TypeORM listens to a connection while it goes from one to the other; what the server says of
   * its own end just then, in the same piece as the words before, would end the process. The next query tells it again.
   */
  onConnect: (client: ClientBase) => void client.on('error', () => undefined),
  /** A server that vanishes without a word is noticed all the same. */
  keepAlive: true,
  keepAliveInitialDelayMillis: 10_000,
};

export interface DataSourceSettings {
  readonly url: string;
  readonly poolSize: number;
  readonly entities: MixedList<Function>;
  readonly logger: Logger;
}

/** Options of the one data source; every wait in it is bounded. */
export function dataSourceOptions({ url, poolSize, entities, logger }: DataSourceSettings): DataSourceOptions {
  // Parsed by node-postgres's own parser, which knows UNIX socket folders as hosts.
  const { host, port, user, password, database, ssl } = pgConnectionString.parse(url);
  return {
    type: 'postgres',
    ...(host ? { host } : {}),
    ...(port ? { port: Number(port) } : {}),
    ...(user === undefined ? {} : { username: user }),
    ...(password === undefined ? {} : { password }),
    ...(database ? { database } : {}),
    ...(ssl === undefined ? {} : { ssl: ssl as boolean }),
    entities,
    migrations: [
      Functions1764000000000,
      Engines1764050000000,
      Postponed1764060000000,
      Scale1764070000000,
      Leased1764080000000,
      WorkerKey1764090000000,
      Settings1764100000000,
      Names1764110000000,
      Logs1764120000000,
      Spec1764130000000,
      Revisions1764140000000,
      Layers1764160000000,
      Traffic1764170000000,
      RevisionTimes1764175000000,
      Runs1764176000000,
      Secrets1764150000000,
      LayerArchives1764180000000,
      Http1764185000000,
      Invocations1764200000000,
      Schedules1764210000000,
      ScheduledInvocations1764211000000,
      History1764220000000,
      InvocationPolicy1764230000000,
      CallbackIds1764240000000,
      HistoryWriters1764250000000,
    ],
    migrationsTransactionMode: 'each',
    synchronize: false,
    logging: false,
    poolSize,
    connectTimeoutMS: CONNECT_TIMEOUT_MS,
    applicationName: 'service-faas',
    extra: {
      ...CONNECTION,
      statement_timeout: STATEMENT_TIMEOUT_MS,
      query_timeout: STATEMENT_TIMEOUT_MS + 2_000,
      idle_in_transaction_session_timeout: IDLE_TIMEOUT_MS,
      min: Math.min(KEPT_CONNECTIONS, poolSize),
    },
    poolErrorHandler: (error: Error) => logger.warn({ reason: error.message }, 'database connection lost'),
  };
}

/**
 * Waits for the server, up to a minute for each part, and brings the schema up to date. Safe with many managers at
 * once, and with a server that goes away at any point.
 */
export async function openDataSource(options: DataSourceOptions, logger: Logger): Promise<DataSource> {
  await whenReachable(logger, async () => {
    // Migrating, and waiting for another manager that does, may take longer than any other statement.
    const migrator = await new DataSource({
      ...options,
      poolSize: 2,
      extra: CONNECTION,
    } as DataSourceOptions).initialize();
    try {
      await migrate(migrator);
    } finally {
      await migrator.destroy();
    }
  });
  return whenReachable(logger, () => new DataSource(options).initialize());
}

/** Does `work`, and again while the database can't be reached, up to a minute. For what a manager can't boot without. */
export async function whenReachable<T>(logger: Pick<Logger, 'warn'>, work: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + BOOT_DEADLINE_MS;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof DatabaseUnavailable || isConnectionFault(error)) || Date.now() > deadline) throw error;
      logger.warn({ reason: (error as Error).message }, 'waiting for the database');
      await delay(1_000);
    }
  }
}

/** Holds an advisory lock, so that of many managers booting at once one migrates and the others wait. */
async function migrate(source: DataSource): Promise<void> {
  const runner = source.createQueryRunner();
  try {
    await runner.query(`SELECT pg_advisory_lock(${MIGRATION_LOCK})`);
    await source.runMigrations();
  } finally {
    await runner.query(`SELECT pg_advisory_unlock(${MIGRATION_LOCK})`).catch(() => undefined);
    await runner.release();
  }
}
