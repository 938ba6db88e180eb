import { AppError } from '#libs/errors/app-error.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';

/** Other traffic was asked for before this was served. */
export class TrafficSuperseded extends AppError {
  readonly code = 'traffic_superseded';
  readonly kind = 'conflict';
  constructor(id: FunctionId) {
    super(`Other traffic of function ${id} was asked for before this could be served. Read it again, then decide.`);
  }
}

/** A call names a revision or a tag that the function's traffic doesn't know. */
export class RevisionWithoutTraffic extends AppError {
  readonly code = 'revision_without_traffic';
  readonly kind = 'conflict';
  constructor(id: FunctionId, named: string) {
    super(
      `Function ${id} has no traffic for ${named}. Give it a target first, with 0 percent if only calls that name it shall reach it.`,
    );
  }
}
