import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What handlers are called with, and whether everybody may call a function over HTTP. */
export class Http1764185000000 implements MigrationInterface {
  readonly name = 'Http1764185000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE functions
        ADD COLUMN handler_kind text NOT NULL DEFAULT 'auto',
        ADD COLUMN public boolean NOT NULL DEFAULT false`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE functions DROP COLUMN handler_kind, DROP COLUMN public');
  }
}
