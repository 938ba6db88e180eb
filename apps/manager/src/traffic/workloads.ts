import type { FunctionId } from '#libs/orchestrator/workload.js';
import { newFunctionId } from '../functions/function-id.js';
import type { Ask } from '../functions/function-lock.js';
import type { FunctionEntity } from '../functions/function.entity.js';
import { SETTING_NAMES } from '../revisions/function-spec.js';
import { TARGET_FILL } from '../scaling/desired-replicas.js';
import type { Resolved } from '../revisions/revision.repository.js';

/** Whose demand it is while no manager has seen it. */
const NOBODY = '00000000-0000-0000-0000-000000000000';
/** How long calls are expected that don't come. */
const EXPECTED_MS = 60_000;

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
  await expectCalls(id, replicas, ask);
  return id;
}

/** Gives a workload that was about to go, or has too little, what traffic asks of it. */
export async function keepWorkload(
  id: FunctionId,
  { said, spec }: Resolved,
  replicas: number,
  ask: Ask,
): Promise<void> {
  const settings = SETTING_NAMES.map((name, index) => `${name} = $${4 + index}`);
  await ask(
    `UPDATE functions SET replicas = GREATEST(replicas, $2::integer), said = $3, ${settings.join(', ')},
       generation = generation + 1, phase = CASE WHEN phase = 'idle' AND $2::integer > 0 THEN 'creating' ELSE phase END,
       last_used_at = now(), reconcile_at = now(), not_before = NULL, wakes = wakes + 1
     WHERE id = $1`,
    [id, replicas, said, ...SETTING_NAMES.map((name) => spec[name])],
  );
  await expectCalls(id, replicas, ask);
}

/** Demand that is about to come counts as if it were there: the replicas for it must not go before it comes. */
async function expectCalls(id: FunctionId, replicas: number, ask: Ask): Promise<void> {
  if (replicas <= 1) return;
  await ask(
    `INSERT INTO demands (function_id, manager, calls_now, calls_lately, seen_at)
     SELECT id, $2, 0, $3::integer * concurrency * ${TARGET_FILL}, now() + $4 * interval '1 millisecond'
     FROM functions WHERE id = $1
     ON CONFLICT (function_id, manager) DO UPDATE SET calls_lately = EXCLUDED.calls_lately, seen_at = EXCLUDED.seen_at`,
    [id, NOBODY, replicas, EXPECTED_MS],
  );
}
