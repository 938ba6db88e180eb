import { createHash } from 'node:crypto';

/**
 * Writes functions straight into a manager's database, as they are once they have run and fallen asleep: uploads of so
 * many would take hours. The schema is the one that the manager's own migrations made.
 */
export async function fillWithFunctions(manager, count, { code, handler, idleTimeoutMs = 600_000 }) {
  const sha256 = createHash('sha256').update(code).digest('hex');
  // Ids are base32: digits that aren't in its alphabet are given letters.
  await manager.query(
    `WITH added AS (
       INSERT INTO functions (id, function_name, active_revision, replicas, timeout_ms, concurrency, memory_mib,
         cpu_millis, pids, generation, observed_generation, phase, idle_timeout_ms)
       SELECT 'bench' || translate(lpad(number::text, 11, '0'), '0189', 'abcd'), $2, 1, 0, 30000, 32, 512,
         1000, 256, 2, 2, 'idle', $5
       FROM generate_series(1, $1::integer) AS number
       RETURNING id)
     INSERT INTO revisions (function_id, number, function_name, code, code_sha256)
     SELECT id, 1, $2, $3, $4 FROM added`,
    [count, handler, code, sha256, idleTimeoutMs],
  );
  // As the database does by itself within a minute.
  await manager.query('ANALYZE functions, revisions');
}

/** The id of the function of that number, from 1 on. */
export function functionId(number) {
  const letters = { 0: 'a', 1: 'b', 8: 'c', 9: 'd' };
  return `bench${String(number)
    .padStart(11, '0')
    .replaceAll(/[0189]/g, (digit) => letters[digit])}`;
}
