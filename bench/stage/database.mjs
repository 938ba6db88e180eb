import { readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';

/** One statement in the database that a manager keeps in this folder; the manager must run. */
export async function queryDatabase(storage, sql, parameters = []) {
  const client = await connectDatabase(storage);
  try {
    return (await client.query(sql, parameters)).rows;
  } finally {
    await client.end();
  }
}

/** A connection to it. */
export async function connectDatabase(storage) {
  const home = await realpath(join(storage, 'postgres'));
  const password = (await readFile(join(home, 'cluster', 'password'), 'utf8')).trim();
  const client = new pg.Client({ host: home, port: 5432, user: 'faas', password, database: 'faasdb' });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}
