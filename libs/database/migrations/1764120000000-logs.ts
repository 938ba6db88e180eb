import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What replicas have printed last before they went, as a JSON array of lines. */
export class Logs1764120000000 implements MigrationInterface {
  readonly name = 'Logs1764120000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE departed_logs (
        function_id text NOT NULL CONSTRAINT departed_logs_function REFERENCES functions (id) ON DELETE CASCADE,
        replica text NOT NULL,
        revision integer,
        departed_at timestamptz NOT NULL DEFAULT now(),
        lines text NOT NULL,
        CONSTRAINT departed_logs_pkey PRIMARY KEY (function_id, replica)
      )`);
    await runner.query('CREATE INDEX departed_logs_departed_at ON departed_logs (departed_at)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE departed_logs');
  }
}
