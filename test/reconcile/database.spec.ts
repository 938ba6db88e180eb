import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createSharedDatabase } from '../support/postgres.js';
import { Installation } from './installation.js';

let here: Installation;

beforeAll(async () => {
  here = await Installation.open(await createSharedDatabase());
  await here.database.query('CREATE TABLE things (id integer)');
  await here.database.query('INSERT INTO things VALUES (1), (2)');
});
afterAll(() => here.close());

const MANY = Array.from({ length: 20 }, () => undefined);

it('prepares a statement that is asked again and again, with the values of each time', async () => {
  const one = 'SELECT id + $1::integer AS sum FROM things WHERE id = ANY ($2) ORDER BY id';
  for (const [index] of MANY.entries()) {
    expect(await here.database.query(one, [index, [1, 2]])).toEqual([{ sum: 1 + index }, { sum: 2 + index }]);
  }
  const prepared = await here.database.query('SELECT name FROM pg_prepared_statements WHERE statement = $1', [one]);
  expect(prepared).not.toEqual([]);
});

it('goes on when a release that follows adds a column to a table that a prepared statement answers with', async () => {
  const all = 'UPDATE things SET id = id WHERE id = $1 RETURNING things.*';
  await Promise.all(MANY.map(() => here.database.query(all, [1])));
  await here.database.query("ALTER TABLE things ADD COLUMN name text NOT NULL DEFAULT 'a'");
  const answers = await Promise.all(MANY.map(() => here.database.query(all, [1])));
  for (const answer of answers) expect(answer).toEqual([{ id: 1, name: 'a' }]);
});

it('makes a transaction anew whose prepared statement a release that follows has changed the answer of', async () => {
  const some = 'UPDATE things SET id = id WHERE id = $1 RETURNING things.*';
  let made = 0;
  const transact = () =>
    here.database.transaction(
      async (ask) => {
        made += 1;
        await ask('INSERT INTO things (id) VALUES ($1)', [100]);
        return (await ask(some, [1])).length;
      },
      { isRepeatable: true },
    );
  for (const _ of MANY) await transact();
  expect(made).toBe(MANY.length);
  await here.database.query('ALTER TABLE things ADD COLUMN size integer');
  expect(await transact()).toBe(1);
  const [{ count } = { count: 0 }] = await here.database.query<{ count: number }>(
    'SELECT count(*)::integer AS count FROM things WHERE id = 100',
  );
  expect(count).toBe(MANY.length + 1);
  await expect(
    here.database.transaction(async (ask) => {
      await ask('DELETE FROM things');
      throw new Error('no');
    }),
  ).rejects.toThrow('no');
  expect(await here.database.query('SELECT id FROM things WHERE id = 1')).toEqual([{ id: 1 }]);
});

it('goes without where a pooler gives each transaction another session', async () => {
  const one = 'SELECT $1::integer AS one';
  const answers = [];
  for (const [index] of MANY.entries()) {
    answers.push(...(await here.database.query(one, [index])));
    // As another session has none of them.
    await here.database.query('DEALLOCATE ALL');
  }
  expect(answers).toEqual(MANY.map((_, index) => ({ one: index })));
});

it('keeps its connection when a statement is refused', async () => {
  const backend = async () => {
    const [row] = await here.database.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    return row?.pid;
  };
  const before = await backend();
  await expect(here.database.query('SELECT $1::integer', ['x'])).rejects.toMatchObject({ code: '22P02' });
  expect(await backend()).toBe(before);
});

it('says that the database is unavailable once it has been closed', async () => {
  const other = await Installation.open(await createSharedDatabase());
  await other.close();
  await expect(other.database.query('SELECT 1')).rejects.toBeInstanceOf(DatabaseUnavailable);
});
