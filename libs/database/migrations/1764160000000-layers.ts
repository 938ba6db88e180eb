import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Packages of functions: locks, what was built of them, and the builds that are under way. */
export class Layers1764160000000 implements MigrationInterface {
  readonly name = 'Layers1764160000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE layers (
        digest text PRIMARY KEY,
        lock text NOT NULL,
        python text NOT NULL,
        machine text NOT NULL,
        bytes bigint NOT NULL,
        files integer NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        used_at timestamptz NOT NULL DEFAULT now()
      )`);
    await runner.query(`
      CREATE TABLE layer_parts (
        digest text NOT NULL REFERENCES layers ON DELETE CASCADE,
        number integer NOT NULL,
        content bytea NOT NULL,
        PRIMARY KEY (digest, number)
      )`);
    // They are compressed already.
    await runner.query('ALTER TABLE layer_parts ALTER COLUMN content SET STORAGE EXTERNAL');
    await runner.query(`
      CREATE TABLE layer_builds (
        key text PRIMARY KEY,
        state text NOT NULL CONSTRAINT layer_builds_state_known CHECK (state IN ('building', 'ready', 'failed')),
        digest text REFERENCES layers ON DELETE CASCADE,
        error jsonb,
        last_lines jsonb NOT NULL DEFAULT '[]',
        began_at timestamptz NOT NULL DEFAULT now(),
        ended_at timestamptz,
        lease_token uuid,
        lease_until timestamptz
      )`);
    await runner.query('CREATE INDEX layer_builds_digest ON layer_builds (digest)');
    // In the order in which everybody else locks them.
    await runner.query('LOCK TABLE functions, revisions IN ACCESS EXCLUSIVE MODE');
    await runner.query('ALTER TABLE functions ADD COLUMN requirements text');
    // A layer that a revision names can't go. `layer_build`: of one that waits for its layer.
    await runner.query(`
      ALTER TABLE revisions
        ADD COLUMN layer text CONSTRAINT revisions_layer REFERENCES layers,
        ADD COLUMN layer_build text`);
    await runner.query('CREATE INDEX revisions_layer_named ON revisions (layer) WHERE layer IS NOT NULL');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE revisions DROP COLUMN layer, DROP COLUMN layer_build');
    await runner.query('ALTER TABLE functions DROP COLUMN requirements');
    for (const table of ['layer_builds', 'layer_parts', 'layers']) await runner.query(`DROP TABLE ${table}`);
  }
}
