import type { MigrationInterface, QueryRunner } from 'typeorm';

export class Engines1764050000000 implements MigrationInterface {
  readonly name = 'Engines1764050000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`ALTER TABLE installation ADD COLUMN engines text[] NOT NULL DEFAULT '{}'`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE installation DROP COLUMN engines');
  }
}
