import type { MigrationInterface, QueryRunner } from 'typeorm';

/** A row that is written and leased in one statement is due to nobody else. */
export class Leased1764080000000 implements MigrationInterface {
  readonly name = 'Leased1764080000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(notifyFunction(' AND (NEW.lease_until IS NULL OR NEW.lease_until <= now())'));
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(notifyFunction(''));
  }
}

function notifyFunction(except: string): string {
  return `
  CREATE OR REPLACE FUNCTION functions_notify() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    IF TG_OP = 'DELETE' THEN
      PERFORM pg_notify('faas_changed', OLD.id);
      RETURN NULL;
    END IF;
    IF NEW.reconcile_at <= now() AND (TG_OP = 'INSERT' OR NEW.wakes <> OLD.wakes)${except} THEN
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
  END $$`;
}
