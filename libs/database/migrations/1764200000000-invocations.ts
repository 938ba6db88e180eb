import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Calls for later, in partitions by day of their id, whose first bits are the time. What has no partition of its own is
 * kept in the default one, so that a day's partition that couldn't be made costs nobody a call.
 */
export class Invocations1764200000000 implements MigrationInterface {
  readonly name = 'Invocations1764200000000';

  async up(runner: QueryRunner): Promise<void> {
    // No foreign key: a function may have so many that removing them takes longer than its removal may.
    await runner.query(`
      CREATE TABLE invocations (
        id uuid NOT NULL,
        function_id text NOT NULL,
        status text NOT NULL DEFAULT 'waiting'
          CONSTRAINT invocations_status_known CHECK (status IN ('waiting', 'running', 'succeeded', 'dead', 'cancelled')),
        priority smallint NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        created_by text,
        request_id text NOT NULL,
        idempotency_key text,
        due_at timestamptz NOT NULL,
        max_age_ms bigint NOT NULL,
        expires_at timestamptz NOT NULL,
        retry jsonb NOT NULL,
        choice jsonb,
        enqueued_revision integer NOT NULL,
        body bytea NOT NULL,
        payload_bytes integer NOT NULL,
        attempt integer NOT NULL DEFAULT 0,
        lost integer NOT NULL DEFAULT 0,
        postponed integer NOT NULL DEFAULT 0,
        cancel_requested boolean NOT NULL DEFAULT false,
        lease_token uuid,
        lease_until timestamptz,
        started_at timestamptz,
        ended_at timestamptz,
        revision integer,
        result bytea,
        result_bytes integer,
        error jsonb,
        callback_url text,
        callback_due_at timestamptz,
        callback_attempt integer NOT NULL DEFAULT 0,
        callback_status text
          CONSTRAINT invocations_callback_known CHECK (callback_status IN ('waiting', 'delivered', 'failed')),
        callback_error text,
        CONSTRAINT invocations_pkey PRIMARY KEY (id)
      ) PARTITION BY RANGE (id)`);
    await runner.query('CREATE TABLE invocations_others PARTITION OF invocations DEFAULT');
    await runner.query('CREATE INDEX invocations_function ON invocations (function_id, id)');
    await runner.query(`
      CREATE INDEX invocations_waiting ON invocations (function_id, priority, due_at) WHERE status = 'waiting'`);
    await runner.query(`CREATE INDEX invocations_expiring ON invocations (expires_at) WHERE status = 'waiting'`);
    await runner.query(`CREATE INDEX invocations_dead ON invocations (function_id, id) WHERE status = 'dead'`);
    await runner.query(`CREATE INDEX invocations_running ON invocations (lease_until) WHERE status = 'running'`);
    await runner.query(`
      CREATE INDEX invocations_callbacks ON invocations (callback_due_at) WHERE callback_due_at IS NOT NULL`);
    // What waits and runs of each function: the bounds of its queue, and where to look for work.
    await runner.query(`
      CREATE TABLE invocation_queues (
        function_id text NOT NULL CONSTRAINT invocation_queues_pkey PRIMARY KEY,
        calls integer NOT NULL,
        bytes bigint NOT NULL
      ) WITH (fillfactor = 50)`);
    await runner.query(`
      CREATE TABLE invocation_keys (
        function_id text NOT NULL,
        key text NOT NULL,
        digest bytea NOT NULL,
        invocation_id uuid NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT invocation_keys_pkey PRIMARY KEY (function_id, key)
      )`);
    await runner.query('CREATE INDEX invocation_keys_created_at ON invocation_keys (created_at)');
  }

  async down(runner: QueryRunner): Promise<void> {
    for (const table of ['invocation_keys', 'invocation_queues', 'invocations']) {
      await runner.query(`DROP TABLE ${table}`);
    }
  }
}
