import type { MigrationInterface, QueryRunner } from 'typeorm';

export class Scale1764070000000 implements MigrationInterface {
  readonly name = 'Scale1764070000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE functions
        ADD COLUMN min_replicas integer NOT NULL DEFAULT 0
          CONSTRAINT functions_min_replicas_range CHECK (min_replicas >= 0),
        ADD COLUMN max_replicas integer
          CONSTRAINT functions_max_replicas_range CHECK (max_replicas >= GREATEST(1, min_replicas)),
        ADD COLUMN idle_timeout_ms integer NOT NULL DEFAULT 600000
          CONSTRAINT functions_idle_timeout_range CHECK (idle_timeout_ms >= 0),
        ADD COLUMN last_used_at timestamptz NOT NULL DEFAULT now()`);
    // Few functions run at any moment, however many there are.
    await runner.query(`CREATE INDEX functions_awake ON functions (last_used_at) WHERE replicas > 0`);
    // What each manager sees of each function's calls; scratch paper that a crash may take.
    await runner.query(`
      CREATE UNLOGGED TABLE demands (
        function_id text NOT NULL CONSTRAINT demands_function REFERENCES functions (id) ON DELETE CASCADE,
        manager uuid NOT NULL,
        calls_now real NOT NULL,
        calls_lately real NOT NULL,
        seen_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT demands_pkey PRIMARY KEY (function_id, manager)
      )`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE demands');
    await runner.query('DROP INDEX functions_awake');
    await runner.query(`
      ALTER TABLE functions DROP COLUMN min_replicas, DROP COLUMN max_replicas, DROP COLUMN idle_timeout_ms,
        DROP COLUMN last_used_at`);
  }
}
