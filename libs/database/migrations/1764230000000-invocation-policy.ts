import type { MigrationInterface, QueryRunner } from 'typeorm';
import { changeInShort } from '../change-in-short.js';

/** Defaults of a function's calls for later, HTTP calls and events among them, and what callbacks look like. */
export class InvocationPolicy1764230000000 implements MigrationInterface {
  readonly name = 'InvocationPolicy1764230000000';

  async up(runner: QueryRunner): Promise<void> {
    await changeInShort(runner, [
      // In the order in which calls lock them. Null: a payload. Null too: the call as it is.
      'ALTER TABLE invocations ADD COLUMN http jsonb, ADD COLUMN callback_format text',
      `ALTER TABLE functions ADD COLUMN invocation_defaults jsonb NOT NULL DEFAULT '{}'`,
    ]);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE invocations DROP COLUMN http, DROP COLUMN callback_format');
    await runner.query('ALTER TABLE functions DROP COLUMN invocation_defaults');
  }
}
