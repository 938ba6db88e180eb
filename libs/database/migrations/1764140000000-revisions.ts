import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What a revision is besides its code, and which one of a function has the calls while another one tries to take over. */
export class Revisions1764140000000 implements MigrationInterface {
  readonly name = 'Revisions1764140000000';

  async up(runner: QueryRunner): Promise<void> {
    // In the order in which everybody else locks them.
    await runner.query('LOCK TABLE functions, revisions IN ACCESS EXCLUSIVE MODE');
    // Null: as the function's row says, which a manager of the former release wrote.
    await runner.query(`
      ALTER TABLE revisions
        ADD COLUMN settings jsonb,
        ADD COLUMN message text NOT NULL DEFAULT '',
        ADD COLUMN created_by text,
        ADD COLUMN state text NOT NULL DEFAULT 'ready'
          CONSTRAINT revisions_state_known CHECK (state IN ('pending', 'ready', 'failed', 'superseded')),
        ADD COLUMN error jsonb,
        ADD COLUMN served_at timestamptz`);
    // Null: the active one has the calls.
    await runner.query(`
      ALTER TABLE functions
        ADD COLUMN serving_revision integer,
        ADD COLUMN rollout_until timestamptz,
        ADD COLUMN former_timeout_ms integer,
        ADD COLUMN last_revision integer NOT NULL DEFAULT 1`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE functions
        DROP COLUMN serving_revision, DROP COLUMN rollout_until, DROP COLUMN former_timeout_ms,
        DROP COLUMN last_revision`);
    await runner.query(`
      ALTER TABLE revisions
        DROP COLUMN settings, DROP COLUMN message, DROP COLUMN created_by, DROP COLUMN state, DROP COLUMN error,
        DROP COLUMN served_at`);
  }
}
