import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Calls that have ended, in segments that follow one another and are dropped whole, the oldest first, whatever the load
 * is. Ids, whose first bits are the time, order them.
 */
export class History1764220000000 implements MigrationInterface {
  readonly name = 'History1764220000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`ALTER TABLE functions ADD COLUMN history jsonb NOT NULL DEFAULT '{}'`);
    await runner.query(`
      CREATE TABLE history_segments (
        family text NOT NULL CONSTRAINT history_segments_family_known CHECK (family IN ('calls', 'minutes')),
        number integer NOT NULL,
        rows bigint NOT NULL DEFAULT 0,
        opened_at timestamptz NOT NULL DEFAULT now(),
        closed_at timestamptz,
        CONSTRAINT history_segments_pkey PRIMARY KEY (family, number)
      ) WITH (fillfactor = 50)`);
    await runner.query(`
      CREATE TABLE calls (
        id uuid NOT NULL,
        request_bytes bigint NOT NULL,
        answer_bytes bigint NOT NULL,
        segment integer NOT NULL,
        revision integer NOT NULL,
        queue_ms real NOT NULL,
        handler_ms real NOT NULL,
        total_ms real NOT NULL,
        kind smallint NOT NULL,
        attempt smallint,
        http_status smallint,
        is_cold boolean NOT NULL,
        function_id text COLLATE "C" NOT NULL,
        request_id text NOT NULL,
        replica text,
        created_by text,
        code text,
        detail text,
        invocation_id uuid
      ) PARTITION BY LIST (segment)`);
    await runner.query('CREATE INDEX calls_id ON calls (id)');
    await runner.query('CREATE INDEX calls_function ON calls (function_id, id) WHERE invocation_id IS NULL');
    await runner.query(`
      CREATE INDEX calls_failed ON calls (function_id, id) WHERE code IS NOT NULL AND invocation_id IS NULL`);
    await runner.query('CREATE INDEX calls_runs ON calls (id) WHERE kind = 4');
    await runner.query('CREATE INDEX calls_attempts ON calls (invocation_id) WHERE invocation_id IS NOT NULL');
    await runner.query(`
      CREATE TABLE call_payloads (
        id uuid NOT NULL,
        segment integer NOT NULL,
        is_redacted boolean NOT NULL,
        payload bytea,
        result bytea
      ) PARTITION BY LIST (segment)`);
    await runner.query('CREATE INDEX call_payloads_id ON call_payloads (id)');
    await runner.query(`
      CREATE TABLE call_minutes (
        minute timestamptz NOT NULL,
        calls integer NOT NULL,
        failed integer NOT NULL,
        cancelled integer NOT NULL,
        cold_starts integer NOT NULL,
        segment integer NOT NULL,
        revision integer NOT NULL,
        function_id text COLLATE "C" NOT NULL,
        durations integer[] NOT NULL,
        CONSTRAINT call_minutes_pkey PRIMARY KEY (function_id, minute, revision, segment)
      ) PARTITION BY LIST (segment)`);
    for (const table of ['calls', 'call_payloads', 'call_minutes']) {
      await runner.query(`CREATE TABLE ${table}_1 PARTITION OF ${table} (segment DEFAULT 1) FOR VALUES IN (1)`);
    }
    await runner.query(`INSERT INTO history_segments (family, number) VALUES ('calls', 1), ('minutes', 1)`);
  }

  async down(runner: QueryRunner): Promise<void> {
    for (const table of ['call_minutes', 'call_payloads', 'calls', 'history_segments']) {
      await runner.query(`DROP TABLE ${table}`);
    }
    await runner.query('ALTER TABLE functions DROP COLUMN history');
  }
}
