import type { MigrationInterface, QueryRunner } from 'typeorm';

export class Functions1764000000000 implements MigrationInterface {
  readonly name = 'Functions1764000000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE installation (
        only_one boolean PRIMARY KEY DEFAULT true CONSTRAINT installation_only_one CHECK (only_one),
        id text NOT NULL
      )`);
    await runner.query(`INSERT INTO installation (id) VALUES (replace(gen_random_uuid()::text, '-', ''))`);

    await runner.query(`
      CREATE TABLE functions (
        id text CONSTRAINT functions_pkey PRIMARY KEY CONSTRAINT functions_id_form CHECK (id ~ '^[a-z2-7]{16}$'),
        position bigint GENERATED ALWAYS AS IDENTITY,
        function_name text NOT NULL,
        active_revision integer NOT NULL,
        replicas integer NOT NULL CONSTRAINT functions_replicas_range CHECK (replicas >= 0),
        timeout_ms integer NOT NULL CONSTRAINT functions_timeout_range CHECK (timeout_ms > 0),
        concurrency integer NOT NULL,
        memory_mib integer NOT NULL,
        cpu_millis integer NOT NULL,
        pids integer NOT NULL,
        generation integer NOT NULL DEFAULT 1,
        observed_generation integer NOT NULL DEFAULT 0,
        phase text NOT NULL
          CONSTRAINT functions_phase_known CHECK (phase IN ('creating', 'running', 'idle', 'stopped', 'error', 'deleting')),
        phase_since timestamptz NOT NULL DEFAULT now(),
        reason jsonb,
        last_fault jsonb,
        endpoints jsonb NOT NULL DEFAULT '[]',
        primary_replica text NOT NULL DEFAULT '',
        host_port integer NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now(),
        provisional_until timestamptz,
        deleted_at timestamptz,
        reconcile_at timestamptz,
        not_before timestamptz,
        wakes integer NOT NULL DEFAULT 0,
        failures integer NOT NULL DEFAULT 0,
        lease_token uuid,
        lease_until timestamptz
      )`);
    await runner.query(`CREATE UNIQUE INDEX functions_position ON functions (position)`);
    await runner.query(`CREATE INDEX functions_due ON functions (reconcile_at) WHERE reconcile_at IS NOT NULL`);

    await runner.query(`
      CREATE TABLE revisions (
        function_id text NOT NULL
          CONSTRAINT revisions_function REFERENCES functions (id) ON DELETE CASCADE,
        number integer NOT NULL,
        function_name text NOT NULL,
        code bytea NOT NULL,
        code_sha256 text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT revisions_pkey PRIMARY KEY (function_id, number)
      )`);

    // faas_due wakes the reconcile loops, faas_changed everybody who holds what they know of a function in memory.
    await runner.query(`
      CREATE FUNCTION functions_notify() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF TG_OP = 'DELETE' THEN
          PERFORM pg_notify('faas_changed', OLD.id);
          RETURN NULL;
        END IF;
        IF NEW.reconcile_at <= now() AND (TG_OP = 'INSERT' OR NEW.wakes <> OLD.wakes) THEN
          PERFORM pg_notify('faas_due', NEW.id);
        END IF;
        IF TG_OP = 'INSERT'
          OR (NEW.phase, NEW.endpoints, NEW.generation, NEW.observed_generation, NEW.failures, NEW.last_fault,
              NEW.reason, NEW.deleted_at)
            IS DISTINCT FROM
             (OLD.phase, OLD.endpoints, OLD.generation, OLD.observed_generation, OLD.failures, OLD.last_fault,
              OLD.reason, OLD.deleted_at)
        THEN
          PERFORM pg_notify('faas_changed', NEW.id);
        END IF;
        RETURN NULL;
      END $$`);
    await runner.query(`
      CREATE TRIGGER functions_notify AFTER INSERT OR UPDATE OR DELETE ON functions
      FOR EACH ROW EXECUTE FUNCTION functions_notify()`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE revisions');
    await runner.query('DROP TABLE functions');
    await runner.query('DROP FUNCTION functions_notify');
    await runner.query('DROP TABLE installation');
  }
}
