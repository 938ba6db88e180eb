import { AppError } from '#libs/errors/app-error.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { EngineUnavailable, FunctionNotReady, FunctionRemoved, HandlerNotLoadable } from './errors.js';
import type { FunctionEntity } from './function.entity.js';

/** How often a replica of a new function may end before its upload fails. */
const ENDS_UNTIL_GIVEN_UP = 2;
/** How often the engine is tried before an upload fails because it can't be reached. */
const ENGINE_TRIES = 2;

/** The outcome of an upload: the ready row, why it failed, or `undefined` while it may still become ready. */
export function uploadVerdict(id: FunctionId, row: FunctionEntity | null): FunctionEntity | AppError | undefined {
  if (row === null || row.deletedAt !== null) return new FunctionRemoved(id);
  if (row.phase === 'running') return row;
  const fault = row.reason;
  if (fault === null) return undefined;
  switch (fault.code) {
    case 'handler_not_loadable':
      return new HandlerNotLoadable(fault.message, fault);
    case 'image_unavailable':
    case 'rejected':
    case 'unschedulable':
      return new FunctionNotReady(id, fault.message, { detail: fault.detail });
    case 'worker_crashed':
    case 'out_of_memory':
      return row.failures < ENDS_UNTIL_GIVEN_UP
        ? undefined
        : new FunctionNotReady(id, fault.message, { detail: fault.detail });
    case 'orchestrator_unavailable':
      return row.postponed < ENGINE_TRIES ? undefined : new EngineUnavailable(fault.message);
    case 'starting':
    case 'internal_error':
      return undefined;
  }
}

/** The error of an upload that wasn't ready in time. */
export function uploadFailure(id: FunctionId, row: FunctionEntity | null, waitedMs: number): AppError {
  if (row?.reason?.code === 'orchestrator_unavailable') return new EngineUnavailable(row.reason.message);
  const waited = `not within ${waitedMs} ms.`;
  const reason = row?.lastFault ?? row?.reason;
  return new FunctionNotReady(id, reason ? `${waited} ${reason.message}` : waited, { detail: reason?.detail });
}
