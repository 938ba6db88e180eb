import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Functions that are there for one call. */
export class Runs1764176000000 implements MigrationInterface {
  readonly name = 'Runs1764176000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE functions ADD COLUMN is_run boolean NOT NULL DEFAULT false');
  }

  async down(runner: QueryRunner): Promise<void> {
    // A manager that knows nothing of them would keep them; their workers are swept as nobody's.
    await runner.query('DELETE FROM functions WHERE is_run');
    await runner.query('ALTER TABLE functions DROP COLUMN is_run');
  }
}
