import type { Ask } from '#libs/database/database.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { newFunctionId } from '../functions/function-id.js';
import type { LockedFunction } from '../functions/function-lock.js';
import type { FunctionEntity } from '../functions/function.entity.js';
import { DELETED } from '../functions/function.repository.js';
import { type Resolved, SETTING_NAMES } from '../revisions/function-spec.js';
import { TARGET_FILL } from '../scaling/desired-replicas.js';

/** Whose demand it is while no manager has seen it. */
const NOBODY = '00000000-0000-0000-0000-000000000000';
/**
 * A call may have been given to a sleeping revision at the moment when that lost its traffic, and wakes it then; one that
 * waits for a worker does so for its time limit.
 */
const IS_UNUSED = `GREATEST(resting_since, last_used_at)
  < now() - GREATEST(10000, CASE WHEN phase = 'idle' THEN 0 ELSE timeout_ms END) * interval '1 millisecond'`;
const LOOK_AGAIN = `now() + interval '5 seconds'`;

export interface NewWorkload {
  readonly number: number;
  readonly resolved: Resolved;
  readonly replicas: number;
  /** It is removed again if it isn't ready by then. */
  readonly withinMs: number;
}

/** A row of its own runs a revision beside the function's workers, reconciled, woken and scaled as any other. */
export async function addWorkload(row: FunctionEntity, made: NewWorkload, ask: Ask): Promise<FunctionId> {
  const { number, resolved, replicas, withinMs } = made;
  const { said, spec } = resolved;
  const id = newFunctionId();
  await ask(
    `INSERT INTO functions (id, workload_of, function_name, active_revision, last_revision, replicas, pids, phase,
       provisional_until, reconcile_at, said, ${SETTING_NAMES.join(', ')})
     VALUES ($1, $2, (SELECT function_name FROM revisions WHERE function_id = $2 AND number = $3), $3, $3, $4, $5,
       'creating', now() + $6::float8 * interval '1 millisecond', now(), $7,
       ${SETTING_NAMES.map((_, index) => `$${8 + index}`).join(', ')})`,
    [id, row.id, number, replicas, row.pids, withinMs, said, ...SETTING_NAMES.map((name) => spec[name])],
  );
  // It may have failed before, and gets another try.
  await ask(
    `UPDATE revisions SET state = 'pending', error = NULL
     WHERE function_id = $1 AND number = $2 AND state IN ('failed', 'superseded')`,
    [row.id, number],
  );
  await expectCalls(id, made, ask);
  return id;
}

/** What traffic asks of a workload. */
type Needed = Pick<NewWorkload, 'replicas' | 'withinMs'>;

/** Gives a workload that was about to go, or has too little, what traffic asks of it. One that has it all stays as it is. */
export async function keepWorkload(id: FunctionId, { said, spec }: Resolved, needed: Needed, ask: Ask): Promise<void> {
  const { replicas, withinMs } = needed;
  const settings = SETTING_NAMES.map((name, index) => `${name} = $${5 + index}`);
  const values = SETTING_NAMES.map((_, index) => `$${5 + index}`);
  const lacks = `(replicas < $2 OR phase <> 'running' OR not_before IS NOT NULL
    OR (${SETTING_NAMES.join(', ')}) IS DISTINCT FROM (${values.join(', ')}))`;
  await ask(
    `UPDATE functions SET replicas = GREATEST(replicas, $2::integer), said = $3, ${settings.join(', ')},
       phase = CASE WHEN phase = 'idle' AND $2::integer > 0 THEN 'creating' ELSE phase END,
       resting_since = NULL, provisional_until = GREATEST(provisional_until,
         CASE WHEN provisional_until IS NOT NULL THEN now() + $4::float8 * interval '1 millisecond' END),
       last_used_at = now(), not_before = NULL, generation = generation + CASE WHEN ${lacks} THEN 1 ELSE 0 END,
       reconcile_at = CASE WHEN ${lacks} THEN now() ELSE reconcile_at END,
       wakes = wakes + CASE WHEN ${lacks} THEN 1 ELSE 0 END
     WHERE id = $1`,
    [id, replicas, said, withinMs, ...SETTING_NAMES.map((name) => spec[name])],
  );
  await expectCalls(id, needed, ask);
}

/**
 * Workers without traffic may sleep whatever their settings say, and those made for a revision go once they do, or can't
 * run. New ones are let be until they have answered.
 */
export async function letRest(
  { row, workloads }: LockedFunction,
  needed: ReadonlySet<FunctionId>,
  ask: Ask,
): Promise<void> {
  const all = [row, ...workloads];
  const kept = all.filter(({ id, restingSince }) => needed.has(id) && restingSince !== null);
  const resting = all.filter(({ id, provisionalUntil }) => !needed.has(id) && provisionalUntil === null);
  const isOf = (rows: readonly FunctionEntity[]) => rows.map(({ id }) => id);
  if (kept.length > 0) await ask('UPDATE functions SET resting_since = NULL WHERE id = ANY ($1)', [isOf(kept)]);
  const began = resting.filter(({ restingSince }) => restingSince === null);
  if (began.length > 0) await ask('UPDATE functions SET resting_since = now() WHERE id = ANY ($1)', [isOf(began)]);
  const useless = resting.filter(({ phase, endpoints }) => phase !== 'running' && endpoints.length === 0);
  if (useless.length === 0) return;
  const ids = isOf(useless);
  await ask(`UPDATE functions SET ${DELETED} WHERE id = ANY ($1) AND workload_of IS NOT NULL AND ${IS_UNUSED}`, [ids]);
  // The function's own row stays.
  await ask(
    `UPDATE functions SET replicas = 0, generation = generation + 1, reconcile_at = now(), wakes = wakes + 1
     WHERE id = ANY ($1) AND workload_of IS NULL AND replicas > 0 AND ${IS_UNUSED}`,
    [ids],
  );
  await ask(
    `UPDATE functions SET reconcile_at = LEAST(COALESCE(reconcile_at, 'infinity'), ${LOOK_AGAIN})
     WHERE id = ANY ($1) AND deleted_at IS NULL AND (workload_of IS NOT NULL OR replicas > 0)`,
    [ids],
  );
}

/** Demand that is about to come counts as if it were there: the replicas for it must not go before it comes. */
async function expectCalls(id: FunctionId, { replicas, withinMs }: Needed, ask: Ask): Promise<void> {
  if (replicas <= 1) return;
  await ask(
    `INSERT INTO demands (function_id, manager, calls_now, calls_lately, seen_at)
     SELECT id, $2, 0, $3::integer * concurrency * ${TARGET_FILL}, now() + $4::float8 * interval '1 millisecond'
     FROM functions WHERE id = $1
     ON CONFLICT (function_id, manager) DO UPDATE SET calls_lately = EXCLUDED.calls_lately, seen_at = EXCLUDED.seen_at`,
    [id, NOBODY, replicas, withinMs],
  );
}
