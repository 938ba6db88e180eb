import type { MigrationInterface, QueryRunner } from 'typeorm';

export class Postponed1764060000000 implements MigrationInterface {
  readonly name = 'Postponed1764060000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE functions ADD COLUMN postponed integer NOT NULL DEFAULT 0');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE functions DROP COLUMN postponed');
  }
}
