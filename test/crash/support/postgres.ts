import pg from 'pg';
import { startTestPostgres, type TestPostgres } from '../../support/postgres.js';

export interface CrashPostgres extends TestPostgres {
  readonly databaseUrl: string;
}

/**
 * The test server answers a commit before it is written, which is fine until it is killed: then what it promised would
 * be lost, and that would be the server's doing. This database waits for the write; it outlives the process that way.
 */
export async function startCrashPostgres(): Promise<CrashPostgres> {
  const server = await startTestPostgres();
  try {
    const databaseUrl = await server.createDatabase();
    const client = new pg.Client({ connectionString: databaseUrl });
    await client.connect();
    try {
      await client.query('SET synchronous_commit = on');
      await client.query(
        `ALTER DATABASE ${client.escapeIdentifier(client.database ?? '')} SET synchronous_commit = on`,
      );
    } finally {
      await client.end();
    }
    return { ...server, databaseUrl };
  } catch (error) {
    await server.stop();
    throw error;
  }
}
