import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Defaults of a function's calls for later, HTTP calls and events among them, and what callbacks look like. */
export class InvocationPolicy1764230000000 implements MigrationInterface {
  readonly name = 'InvocationPolicy1764230000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`ALTER TABLE functions ADD COLUMN invocation_defaults jsonb NOT NULL DEFAULT '{}'`);
    // Null: a payload. Null too: the call as it is.
    await runner.query('ALTER TABLE invocations ADD COLUMN http jsonb, ADD COLUMN callback_format text');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE invocations DROP COLUMN http, DROP COLUMN callback_format');
    await runner.query('ALTER TABLE functions DROP COLUMN invocation_defaults');
  }
}
