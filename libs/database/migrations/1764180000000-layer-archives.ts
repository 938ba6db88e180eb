import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What the archive of a layer must be when it arrives where no manager unpacks it; null: nobody has asked yet. */
export class LayerArchives1764180000000 implements MigrationInterface {
  readonly name = 'LayerArchives1764180000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE layers ADD COLUMN archive_sha256 text');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE layers DROP COLUMN archive_sha256');
  }
}
