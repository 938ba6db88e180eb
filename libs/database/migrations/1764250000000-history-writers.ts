import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What each manager has written to the history last, by which it knows what was committed without its hearing of it. */
export class HistoryWriters1764250000000 implements MigrationInterface {
  readonly name = 'HistoryWriters1764250000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE history_writers (
        id uuid NOT NULL CONSTRAINT history_writers_pkey PRIMARY KEY,
        last_write uuid NOT NULL,
        written_at timestamptz NOT NULL DEFAULT now()
      ) WITH (fillfactor = 50)`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE history_writers');
  }
}
