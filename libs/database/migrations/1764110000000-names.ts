import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What users call a function and say of it. Each such change has a version. */
export class Names1764110000000 implements MigrationInterface {
  readonly name = 'Names1764110000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE functions
        ADD COLUMN name text
          CONSTRAINT functions_name_form CHECK (name ~ '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$'),
        ADD COLUMN description text NOT NULL DEFAULT '',
        ADD COLUMN labels jsonb NOT NULL DEFAULT '{}',
        ADD COLUMN enabled boolean NOT NULL DEFAULT true,
        ADD COLUMN version integer NOT NULL DEFAULT 1`);
    // A name is free again as soon as the removal of its function was recorded.
    await runner.query(`
      CREATE UNIQUE INDEX functions_name ON functions (name) WHERE name IS NOT NULL AND deleted_at IS NULL`);
    await runner.query(notifyFunction(', NEW.version', ', OLD.version'));
    // Leases and last uses are written often, and are nobody else's business.
    await runner.query('DROP TRIGGER functions_notify ON functions');
    await runner.query(`
      CREATE TRIGGER functions_notify AFTER INSERT OR DELETE OR UPDATE OF phase, endpoints, generation,
        observed_generation, failures, last_fault, reason, deleted_at, version, reconcile_at, wakes ON functions
      FOR EACH ROW EXECUTE FUNCTION functions_notify()`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(notifyFunction('', ''));
    await runner.query('DROP TRIGGER functions_notify ON functions');
    await runner.query(`
      CREATE TRIGGER functions_notify AFTER INSERT OR UPDATE OR DELETE ON functions
      FOR EACH ROW EXECUTE FUNCTION functions_notify()`);
    await runner.query(`
      ALTER TABLE functions
        DROP COLUMN name, DROP COLUMN description, DROP COLUMN labels, DROP COLUMN enabled, DROP COLUMN version`);
  }
}

function notifyFunction(newVersion: string, oldVersion: string): string {
  return `
  CREATE OR REPLACE FUNCTION functions_notify() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    IF TG_OP = 'DELETE' THEN
      PERFORM pg_notify('faas_changed', OLD.id);
      RETURN NULL;
    END IF;
    IF NEW.reconcile_at <= now() AND (TG_OP = 'INSERT' OR NEW.wakes <> OLD.wakes)
      AND (NEW.lease_until IS NULL OR NEW.lease_until <= now()) THEN
      PERFORM pg_notify('faas_due', NEW.id);
    END IF;
    IF TG_OP = 'INSERT'
      OR (NEW.phase, NEW.endpoints, NEW.generation, NEW.observed_generation, NEW.failures, NEW.last_fault,
          NEW.reason, NEW.deleted_at${newVersion})
        IS DISTINCT FROM
         (OLD.phase, OLD.endpoints, OLD.generation, OLD.observed_generation, OLD.failures, OLD.last_fault,
          OLD.reason, OLD.deleted_at${oldVersion})
    THEN
      PERFORM pg_notify('faas_changed', NEW.id);
    END IF;
    RETURN NULL;
  END $$`;
}
