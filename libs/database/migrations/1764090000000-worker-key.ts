import { randomBytes } from 'node:crypto';
import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What the tokens of this installation's workers are made of. Made here, for the server has no such source of its own. */
export class WorkerKey1764090000000 implements MigrationInterface {
  readonly name = 'WorkerKey1764090000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE worker_key (
        only_one boolean PRIMARY KEY DEFAULT true CONSTRAINT worker_key_only_one CHECK (only_one),
        key bytea NOT NULL CONSTRAINT worker_key_length CHECK (length(key) = 32)
      )`);
    await runner.query('INSERT INTO worker_key (key) VALUES ($1)', [randomBytes(32)]);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE worker_key');
  }
}
