import type { MigrationInterface, QueryRunner } from 'typeorm';
import { changeInShort } from '../change-in-short.js';

/** What calls were made for. */
export class ScheduledInvocations1764211000000 implements MigrationInterface {
  readonly name = 'ScheduledInvocations1764211000000';

  async up(runner: QueryRunner): Promise<void> {
    await changeInShort(runner, [
      'ALTER TABLE invocations ADD COLUMN schedule text, ADD COLUMN scheduled_for timestamptz',
    ]);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE invocations DROP COLUMN schedule, DROP COLUMN scheduled_for');
  }
}
