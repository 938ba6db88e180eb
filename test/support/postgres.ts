import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EmbeddedPostgres } from '#libs/database/embedded/embedded-postgres.js';
import pg from 'pg';
import { pino } from 'pino';
import { inject } from 'vitest';

export interface TestPostgres {
  /** The database that exists from the start. */
  readonly url: string;
  /** An empty database. */
  createDatabase(): Promise<string>;
  /** As a crash would: without warning, and it stays down until `restart`. */
  kill(): Promise<void>;
  /** Brings it up on the same URLs, whether it runs or not. */
  restart(): Promise<void>;
  /** Stops it and removes everything. */
  stop(): Promise<void>;
}

const DEADLINE_MS = 60_000;

/** A PostgreSQL of its own in a temporary folder; fast, because it need not survive the loss of power. */
export async function startTestPostgres(): Promise<TestPostgres> {
  const folder = await mkdtemp(join(tmpdir(), 'faas-test-postgres-'));
  // The server's user must be able to get to its data when the tests run as root.
  await chmod(folder, 0o755);
  const settings = { fsync: 'off', full_page_writes: 'off', max_connections: '400' };
  const server = new EmbeddedPostgres({
    dataDir: join(folder, 'postgres'),
    logger: pino({ level: 'silent' }),
    settings,
  });
  const ensure = () => server.ensureRunning(AbortSignal.timeout(DEADLINE_MS));
  const url = await ensure().catch(async (error: unknown) => {
    await rm(folder, { recursive: true, force: true });
    throw error;
  });
  return {
    url,
    createDatabase: () => createDatabase(url),
    kill: async () => {
      const pid = await server.pid();
      if (pid !== undefined) process.kill(pid, 'SIGKILL');
      while ((await server.pid()) !== undefined) await new Promise((resolve) => setImmediate(resolve));
    },
    restart: async () => {
      await server.stop();
      await ensure();
    },
    stop: async () => {
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** An empty database on the server that all files of a project share (`shared-postgres.ts`). */
export function createSharedDatabase(): Promise<string> {
  return createDatabase(inject('sharedPostgres'));
}

/** Whoever still uses it is cut off. */
export async function dropSharedDatabase(url: string): Promise<void> {
  await onServer(inject('sharedPostgres'), `DROP DATABASE ${nameIn(url)} WITH (FORCE)`);
}

async function createDatabase(server: string): Promise<string> {
  const name = `test_${randomBytes(6).toString('hex')}`;
  await onServer(server, `CREATE DATABASE ${name}`);
  return server.replace(/\/[^/]*$/, `/${name}`);
}

function nameIn(url: string): string {
  return url.slice(url.lastIndexOf('/') + 1);
}

/** One statement, on a connection of its own. */
export async function onServer(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
