import type { MigrationInterface, QueryRunner } from 'typeorm';
import { changeInShort } from '../change-in-short.js';

/** By what receivers tell the callback of a call that was redriven from the one before. */
export class CallbackIds1764240000000 implements MigrationInterface {
  readonly name = 'CallbackIds1764240000000';

  async up(runner: QueryRunner): Promise<void> {
    // Null: the call's own.
    await changeInShort(runner, ['ALTER TABLE invocations ADD COLUMN callback_id uuid']);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE invocations DROP COLUMN callback_id');
  }
}
