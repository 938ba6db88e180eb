import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import type { Logger } from 'pino';
import { locateBinaries, type Binaries } from './binaries.js';
import { ensureCluster, readPassword, SUPERUSER } from './cluster.js';
import { EmbeddedPostgresError, explainOutput, lastLines } from './embedded-postgres-error.js';
import { prepareHome, type Home } from './home.js';
import { removeStaleLocks, runningServer, startServer, type ServerSettings, type StartedServer } from './postmaster.js';

export interface EmbeddedPostgresOptions {
  readonly dataDir: string;
  readonly logger: Logger;
  /** Settings of the server beyond ours; for tests, which may give up durability for speed. */
  readonly settings?: ServerSettings;
}

const DATABASE = 'faasdb';
const START_DEADLINE_MS = 90_000;
const RETRY_MS = 100;
const CONNECT_TIMEOUT_MS = 3_000;
const TRUST_MS = 10_000;
const CLOSING_MS = 1_000;
const FAST_STOP_MS = 20_000;
const IMMEDIATE_STOP_MS = 5_000;

/** Faults of a start that pass by themselves: another starter was first, or a killed server's children still end. */
const PASSING =
  /lock file ".*" already exists|lock file ".*" is empty|pre-existing shared memory block|is still in use/;

/**
 * A real PostgreSQL of our own on one data folder, for machines without a server. The server is no part of this
 * process: it outlives a crash of the manager and is adopted by the next, and any number of managers of one machine
 * share it. They must see each other's processes, so never share the folder between machines or containers.
 */
export class EmbeddedPostgres {
  private turn: Promise<unknown> = Promise.resolve();
  private home: Home | undefined;
  private reported: number | undefined;
  private answered: { readonly url: string; readonly pid: number; readonly at: number } | undefined;
  private started: StartedServer | undefined;

  constructor(private readonly options: EmbeddedPostgresOptions) {}

  /**
   * Makes sure that the server runs, whatever was there before, and answers the URL of its database. Call it again
   * whenever connections fail, or every second or so: while the server lives it costs next to nothing. Rejects with {@link EmbeddedPostgresError} when it can't run, after 90 s at most.
   */
  ensureRunning(signal: AbortSignal): Promise<string> {
    const work = this.turn.then(() =>
      this.reconcile(AbortSignal.any([signal, AbortSignal.timeout(START_DEADLINE_MS)])),
    );
    this.turn = work.catch(() => undefined);
    return work.catch((error: unknown) => {
      signal.throwIfAborted();
      throw error;
    });
  }

  /** Stops the server if this instance started it, or adopted it and is the last to use it. */
  async stop(): Promise<void> {
    await this.turn;
    const started = this.started;
    this.started = undefined;
    if (started === undefined) return this.stopAdopted();
    if (hasEnded(started)) return;
    // Fast: rolls open transactions back and writes everything; immediate leaves the rest to recovery.
    for (const [name, wait] of [['SIGINT', FAST_STOP_MS] as const, ['SIGQUIT', IMMEDIATE_STOP_MS] as const]) {
      started.process.kill(name);
      if (await endsWithin(started, wait)) {
        this.options.logger.info({ pid: started.process.pid }, 'database server stopped');
        return;
      }
    }
    this.options.logger.error({ pid: started.process.pid }, 'database server does not stop');
  }

  /** Whoever started it may have been killed, and then nobody else would. */
  private async stopAdopted(): Promise<void> {
    const { home, answered } = this;
    if (home === undefined || answered === undefined) return;
    const isGone = async () => (await runningServer(home)) !== answered.pid;
    if ((await isGone()) || !(await isUnused(answered.url))) return;
    try {
      process.kill(answered.pid, 'SIGINT');
    } catch (error) {
      this.options.logger.warn({ err: error, pid: answered.pid }, 'database server not stopped');
      return;
    }
    for (const end = performance.now() + FAST_STOP_MS; performance.now() < end; await delay(RETRY_MS)) {
      if (!(await isGone())) continue;
      this.options.logger.info({ pid: answered.pid }, 'database server stopped');
      return;
    }
    this.options.logger.error({ pid: answered.pid }, 'database server does not stop');
  }

  /** For tests: the server's process, whoever started it. */
  async pid(): Promise<number | undefined> {
    return this.home === undefined ? undefined : runningServer(this.home);
  }

  private async reconcile(signal: AbortSignal): Promise<string> {
    const { dataDir, logger } = this.options;
    signal.throwIfAborted();
    if (this.home !== undefined && this.answered !== undefined) {
      // Asked every second by a manager that watches over it, so a living process counts as answering for a while.
      const recent = performance.now() - this.answered.at < TRUST_MS;
      if (recent && (await runningServer(this.home)) === this.answered.pid) return this.answered.url;
    }
    const home = (this.home = await prepareHome(dataDir, logger));
    const binaries = await locateBinaries(home.user, home.copiesDir);
    await ensureCluster(home, binaries, logger, signal);
    const password = await readPassword(home);
    const pid = await this.untilAnswering(home, binaries, password, signal);
    const url = `postgresql://${SUPERUSER}:${password}@${encodeURIComponent(home.socketDir)}:5432/${DATABASE}`;
    this.answered = { url, pid, at: performance.now() };
    return url;
  }

  private async untilAnswering(home: Home, binaries: Binaries, password: string, signal: AbortSignal): Promise<number> {
    const began = performance.now();
    let reason = 'it did not start';
    try {
      for (;;) {
        const pid = await runningServer(home);
        if (pid === undefined) {
          await this.start(home, binaries, signal);
        } else {
          const refusal = await tryConnecting(home, password);
          if (refusal === undefined) {
            this.report(pid, home, Math.round(performance.now() - began));
            return pid;
          }
          reason = refusal;
        }
        await delay(RETRY_MS, undefined, { signal });
      }
    } catch (error) {
      if (!signal.aborted) throw error;
      const log = await readFile(home.log, 'utf8').catch(() => '');
      throw new EmbeddedPostgresError(
        'timeout',
        `The database in ${home.path} did not answer in time: ${reason}\nLast lines of its log:\n${lastLines(log)}`,
        { cause: error },
      );
    }
  }

  private report(pid: number, { path }: Home, elapsedMs: number): void {
    if (pid === this.reported) return;
    this.reported = pid;
    const ours = this.started?.process.pid === pid;
    this.options.logger.info({ pid, path, elapsedMs }, ours ? 'database server started' : 'database server adopted');
  }

  /** Returns when the server has written its pid, or ended for a reason that may pass. */
  private async start(home: Home, binaries: Binaries, signal: AbortSignal): Promise<void> {
    await removeStaleLocks(home);
    const started = await startServer(home, binaries, this.options.settings ?? {});
    let output: string | undefined;
    this.started = started;
    const ended = started.ended.then((text) => (output = text));
    ended.catch(() => undefined);
    while ((await runningServer(home)) !== started.process.pid) {
      await Promise.race([ended, delay(RETRY_MS / 2, undefined, { signal })]);
      if (output === undefined) continue;
      this.started = undefined;
      if (PASSING.test(output)) return;
      throw explainOutput('PostgreSQL', home.path, output);
    }
  }
}

/** Whether nobody has a connection to the server, once those that are being closed are gone. */
async function isUnused(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: CONNECT_TIMEOUT_MS });
  client.on('error', () => undefined);
  try {
    await client.connect();
    for (const end = performance.now() + CLOSING_MS; performance.now() < end; await delay(RETRY_MS / 2)) {
      const { rowCount } = await client.query(
        "SELECT FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
      );
      if (rowCount === 0) return true;
    }
    return false;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** Undefined when the server answers and has the database, else why not; rejects for what no retry can mend. */
async function tryConnecting(home: Home, password: string): Promise<string | undefined> {
  const client = new pg.Client({
    host: home.socketDir,
    port: 5432,
    user: SUPERUSER,
    password,
    database: 'postgres',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: 10_000,
    application_name: 'service-faas-start',
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await ensureDatabase(client);
    return undefined;
  } catch (error) {
    const { code, message } = error as pg.DatabaseError;
    if (code === '28P01') {
      const text = `The database in ${home.path} refuses the password in ${home.passwordFile}: restore the right one.`;
      throw new EmbeddedPostgresError('wrong_password', text, { cause: error });
    }
    if (code === '53100') throw explainOutput('PostgreSQL', home.path, `No space left on device (${message})`);
    return message;
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function ensureDatabase(client: pg.Client): Promise<void> {
  const { rowCount } = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [DATABASE]);
  if (rowCount === 1) return;
  await client.query(`CREATE DATABASE ${DATABASE}`).catch((error: pg.DatabaseError) => {
    // duplicate_database, or its race on the catalogue's unique index: another manager created it.
    if (error.code !== '42P04' && error.code !== '23505') throw error;
  });
}

function hasEnded({ process: child }: StartedServer): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

async function endsWithin(started: StartedServer, ms: number): Promise<boolean> {
  const waiting = new AbortController();
  const ended = started.ended.then(
    () => true,
    () => true,
  );
  const late = delay(ms, false, { signal: waiting.signal }).catch(() => false);
  return Promise.race([ended, late]).finally(() => waiting.abort());
}
