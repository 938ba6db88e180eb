import { QueryFailedError, type QueryRunner } from 'typeorm';

/** Whatever waits behind a change waits so long at most. */
const LOCK_TIMEOUT = '1s';
const MOST_TRIES = 60;

/**
 * Changes tables that others are at work with: a change waits for all of them, and everybody waits behind it, so it is
 * tried in short, and lets go of what it has locked in between.
 */
export async function changeInShort(runner: QueryRunner, statements: readonly string[]): Promise<void> {
  await runner.query(`SET LOCAL lock_timeout = '${LOCK_TIMEOUT}'`);
  await runner.query('SAVEPOINT before');
  for (let tries = 1; ; tries += 1) {
    try {
      for (const statement of statements) await runner.query(statement);
      return;
    } catch (error) {
      if (!isLocked(error) || tries === MOST_TRIES) throw error;
      await runner.query('ROLLBACK TO SAVEPOINT before');
    }
  }
}

function isLocked(error: unknown): boolean {
  return error instanceof QueryFailedError && (error.driverError as { code?: string }).code === '55P03';
}
