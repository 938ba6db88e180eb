import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Since when a revision has had no calls, so that old ones can go. */
export class RevisionRetention1764175000000 implements MigrationInterface {
  readonly name = 'RevisionRetention1764175000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE revisions ADD COLUMN unused_since timestamptz');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE revisions DROP COLUMN unused_since');
  }
}
