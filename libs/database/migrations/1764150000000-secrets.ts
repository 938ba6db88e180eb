import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Encrypted values, and which of them each function uses. */
export class Secrets1764150000000 implements MigrationInterface {
  readonly name = 'Secrets1764150000000';

  async up(runner: QueryRunner): Promise<void> {
    // The version is of the value, and goes into what is authenticated; a new key for the same value leaves it.
    await runner.query(`
      CREATE TABLE secrets (
        name text CONSTRAINT secrets_pkey PRIMARY KEY
          CONSTRAINT secrets_name_form CHECK (name ~ '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$'),
        key_id text NOT NULL,
        nonce bytea NOT NULL,
        ciphertext bytea NOT NULL,
        version uuid NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        updated_by text
      )`);
    await runner.query('CREATE INDEX secrets_key_id ON secrets (key_id)');
    await runner.query(`ALTER TABLE functions ADD COLUMN secrets jsonb NOT NULL DEFAULT '{}'`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE functions DROP COLUMN secrets');
    await runner.query('DROP TABLE secrets');
  }
}
