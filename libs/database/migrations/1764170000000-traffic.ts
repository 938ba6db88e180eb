import type { MigrationInterface, QueryRunner } from 'typeorm';

/** How calls are spread over the revisions of a function, and rows that run one revision of another row's function. */
export class Traffic1764170000000 implements MigrationInterface {
  readonly name = 'Traffic1764170000000';

  async up(runner: QueryRunner): Promise<void> {
    // Null: it is a function itself.
    await runner.query(`
      ALTER TABLE functions
        ADD COLUMN workload_of text
          CONSTRAINT functions_workload_form CHECK (workload_of <> id),
        ADD COLUMN traffic jsonb,
        ADD COLUMN wanted_traffic jsonb,
        ADD COLUMN resting_since timestamptz`);
    await runner.query(`
      CREATE INDEX functions_workloads ON functions (workload_of) WHERE workload_of IS NOT NULL`);
  }

  async down(runner: QueryRunner): Promise<void> {
    // A manager that knows nothing of them would take them for functions; their workers are swept as nobody's.
    await runner.query('DELETE FROM functions WHERE workload_of IS NOT NULL');
    await runner.query(`
      ALTER TABLE functions
        DROP COLUMN workload_of, DROP COLUMN traffic, DROP COLUMN wanted_traffic, DROP COLUMN resting_since`);
  }
}
