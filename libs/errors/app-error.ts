import type { ProblemCode, ProblemExtras } from './problems.js';

/** What went wrong in terms of the domain; only the problem filter knows which HTTP status each kind has. */
export type ErrorKind =
  | 'invalid'
  | 'unauthorized'
  | 'forbidden'
  | 'not_found'
  | 'not_allowed'
  | 'conflict'
  | 'precondition_failed'
  | 'too_large'
  | 'unsupported'
  | 'unprocessable'
  | 'saturated'
  | 'failed'
  | 'not_implemented'
  | 'crashed'
  | 'unavailable'
  | 'timed_out';

/**
 * Every error this service answers with. `code` is a stable machine word, the message one sentence for the caller:
 * what is wrong and what to do. Nothing internal belongs in either; put that in `cause`, which only the log shows.
 */
export abstract class AppError extends Error {
  /** A caller who is gone reads no answer, so that its code is in no list of them. */
  abstract readonly code: ProblemCode | 'call_cancelled';
  abstract readonly kind: ErrorKind;
  /** Seconds after which trying again makes sense; becomes `Retry-After`. */
  readonly retryAfterSeconds?: number;
  extras: ProblemExtras;

  /**
   * `isMany`: made by the thousand when callers are too many. Nobody reads where, and noting it takes longer than
   * refusing a call does.
   */
  protected constructor(message: string, options: { cause?: unknown; extras?: ProblemExtras; isMany?: boolean } = {}) {
    const { stackTraceLimit } = Error;
    if (options.isMany) Error.stackTraceLimit = 0;
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    if (options.isMany) Error.stackTraceLimit = stackTraceLimit;
    this.name = new.target.name;
    this.extras = options.extras ?? {};
  }

  /** The same error, which tells this, too. */
  with(extras: ProblemExtras): this {
    this.extras = { ...this.extras, ...extras };
    return this;
  }
}
