import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Since when a revision has had no calls, so that old ones can go, and until when its maker waits for its packages. */
export class RevisionTimes1764175000000 implements MigrationInterface {
  readonly name = 'RevisionTimes1764175000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(
      'ALTER TABLE revisions ADD COLUMN unused_since timestamptz, ADD COLUMN awaited_until timestamptz',
    );
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE revisions DROP COLUMN unused_since, DROP COLUMN awaited_until');
  }
}
