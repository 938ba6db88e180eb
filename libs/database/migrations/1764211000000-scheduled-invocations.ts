import { QueryFailedError, type MigrationInterface, type QueryRunner } from 'typeorm';

/** Calls that wait behind the change wait so long at most. */
const LOCK_TIMEOUT = '1s';
const MOST_TRIES = 60;

/** What calls were made for. The change waits for all that reads or writes calls, so it is tried in short. */
export class ScheduledInvocations1764211000000 implements MigrationInterface {
  readonly name = 'ScheduledInvocations1764211000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`SET LOCAL lock_timeout = '${LOCK_TIMEOUT}'`);
    await runner.query('SAVEPOINT before');
    for (let tries = 1; ; tries += 1) {
      try {
        await runner.query('ALTER TABLE invocations ADD COLUMN schedule text, ADD COLUMN scheduled_for timestamptz');
        return;
      } catch (error) {
        if (!isLocked(error) || tries === MOST_TRIES) throw error;
        await runner.query('ROLLBACK TO SAVEPOINT before');
      }
    }
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE invocations DROP COLUMN schedule, DROP COLUMN scheduled_for');
  }
}

function isLocked(error: unknown): boolean {
  return error instanceof QueryFailedError && (error.driverError as { code?: string }).code === '55P03';
}
