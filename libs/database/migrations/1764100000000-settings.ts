import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Which manager's settings count, and what each upload has said for itself. */
export class Settings1764100000000 implements MigrationInterface {
  readonly name = 'Settings1764100000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE installation
        ADD COLUMN settings_sha256 text NOT NULL DEFAULT '',
        ADD COLUMN settings_beats bigint NOT NULL DEFAULT 0`);
    // What functions said that are there already nobody knows: they keep what they have, as do those of former managers.
    await runner.query(`
      ALTER TABLE functions ADD COLUMN said text[] NOT NULL
        DEFAULT '{timeout_ms,idle_timeout_ms,min_replicas,max_replicas,concurrency}'`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE functions DROP COLUMN said');
    await runner.query(`
      ALTER TABLE installation
        DROP COLUMN settings_sha256, DROP COLUMN settings_beats`);
  }
}
