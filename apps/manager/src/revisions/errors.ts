import { AppError } from '#libs/errors/app-error.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { FunctionNotReady, HandlerNotLoadable } from '../functions/errors.js';
import type { RevisionError } from './revision.entity.js';

export class RevisionNotFound extends AppError {
  readonly code = 'revision_not_found';
  readonly kind = 'not_found';
  /** `number` is undefined where any other ready one would do. `isBare`: it is there, without its packages. */
  constructor(id: FunctionId, number?: number | string, isBare = false) {
    const shown = JSON.stringify(number)?.slice(0, 40);
    if (shown === undefined) super(`Function ${id} has no other revision that was ever ready.`);
    else if (isBare) super(`Revision ${shown} of function ${id} can't serve: its packages are not installed.`);
    else super(`Function ${id} has no revision ${shown}.`);
  }
}

export class RevisionInUse extends AppError {
  readonly code = 'revision_in_use';
  readonly kind = 'conflict';
  constructor(id: FunctionId, number: number) {
    super(
      `Revision ${number} of function ${id} is in use: it has calls or a tag, is about to have them, or is what the function's own workers run.`,
    );
  }
}

/** The problem of whoever waited for a revision that could not serve. */
export function failureOf(id: FunctionId, error: RevisionError): AppError {
  const { code, message, detail } = error;
  if (code === 'handler_not_loadable') return new HandlerNotLoadable(message, error);
  return new FunctionNotReady(id, message, { detail });
}

/** Another revision was made, or chosen, before this one could take over. */
export class RevisionSuperseded extends AppError {
  readonly code = 'revision_superseded';
  readonly kind = 'conflict';
  constructor(id: FunctionId, number: number, by: number) {
    super(`Revision ${number} of function ${id} did not take over: revision ${by} was wanted before it was ready.`);
  }
}
