import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Schedules, and the times that they have fired for: a time that is there is never fired again. */
export class Schedules1764210000000 implements MigrationInterface {
  readonly name = 'Schedules1764210000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE schedules (
        function_id text NOT NULL CONSTRAINT schedules_function REFERENCES functions (id) ON DELETE CASCADE,
        name text NOT NULL,
        version integer NOT NULL DEFAULT 1,
        cron text,
        interval_ms bigint,
        timezone text NOT NULL,
        body bytea NOT NULL,
        payload_bytes integer NOT NULL,
        overlap text NOT NULL CONSTRAINT schedules_overlap_known CHECK (overlap IN ('skip', 'queue', 'allow')),
        catch_up_ms bigint NOT NULL,
        jitter_ms bigint NOT NULL,
        pause_after_failures integer NOT NULL,
        enabled boolean NOT NULL,
        priority smallint NOT NULL,
        retry jsonb NOT NULL,
        max_age_ms bigint NOT NULL,
        choice jsonb,
        callback_url text,
        callback_format text NOT NULL,
        anchor_at timestamptz NOT NULL,
        next_at timestamptz,
        due_at timestamptz,
        fired_for timestamptz,
        is_held boolean NOT NULL DEFAULT false,
        is_resting boolean NOT NULL DEFAULT false,
        paused_at timestamptz,
        failures integer NOT NULL DEFAULT 0,
        failures_since timestamptz NOT NULL DEFAULT now(),
        fired bigint NOT NULL DEFAULT 0,
        missed bigint NOT NULL DEFAULT 0,
        last_missed_for timestamptz,
        last_missed_reason text,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        updated_by text,
        CONSTRAINT schedules_pkey PRIMARY KEY (function_id, name),
        CONSTRAINT schedules_one_timing CHECK ((cron IS NULL) <> (interval_ms IS NULL))
      ) WITH (fillfactor = 70)`);
    await runner.query('CREATE INDEX schedules_due ON schedules (due_at) WHERE due_at IS NOT NULL');
    await runner.query('CREATE INDEX schedules_resting ON schedules (function_id) WHERE is_resting');
    // A status is null until the call has ended and somebody has seen it; it outlives the call.
    await runner.query(`
      CREATE TABLE schedule_firings (
        function_id text NOT NULL,
        schedule text NOT NULL,
        scheduled_for timestamptz NOT NULL,
        invocation_id uuid NOT NULL,
        fired_at timestamptz NOT NULL DEFAULT now(),
        status text,
        ended_at timestamptz,
        CONSTRAINT schedule_firings_pkey PRIMARY KEY (function_id, schedule, scheduled_for),
        CONSTRAINT schedule_firings_schedule FOREIGN KEY (function_id, schedule) REFERENCES schedules
          ON DELETE CASCADE
      )`);
    await runner.query(`
      CREATE INDEX schedule_firings_open ON schedule_firings (function_id, schedule) WHERE status IS NULL`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE schedule_firings');
    await runner.query('DROP TABLE schedules');
  }
}
