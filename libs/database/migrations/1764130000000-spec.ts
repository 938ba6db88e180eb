import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The variables of a function. Its memory and processor time have columns that nobody could set so far. */
export class Spec1764130000000 implements MigrationInterface {
  readonly name = 'Spec1764130000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`ALTER TABLE functions ADD COLUMN env jsonb NOT NULL DEFAULT '{}'`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE functions DROP COLUMN env');
  }
}
