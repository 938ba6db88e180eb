import { AppError } from '#libs/errors/app-error.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import type { CallStatus } from '../history/call.js';
import type { Status } from './invocation.js';

/** `field` is the member at fault, or the header. */
export class InvalidInvocation extends AppError {
  readonly code = 'invalid_invocation';
  readonly kind = 'invalid';
  constructor(field: string, message: string) {
    super(message, { extras: { field } });
  }
}

export class InvocationNotFound extends AppError {
  readonly code = 'invocation_not_found';
  readonly kind = 'not_found';
  constructor(id: string) {
    super(`There is no invocation ${id.slice(0, 64)}. It may have been removed after its time.`);
  }
}

/** A run's worker is gone with all that it has printed. */
export class LogNotKept extends AppError {
  readonly code = 'log_not_kept';
  readonly kind = 'not_found';
  constructor(id: string) {
    super(`Invocation ${id} is a run, of which nothing but its record is kept: its answer had what it has printed.`);
  }
}

export class InvocationEnded extends AppError {
  readonly code = 'invocation_ended';
  readonly kind = 'conflict';
  constructor(id: string, status: Status | CallStatus) {
    super(`Invocation ${id} has ended already: its status is ${status}.`);
  }
}

/** What a call was given isn't there any more, or never was. */
export class ReplayImpossible extends AppError {
  readonly code = 'replay_impossible';
  readonly kind = 'conflict';
  constructor(id: string, reason: string) {
    super(`Invocation ${id} can't be replayed: ${reason}`);
  }
}

export class IdempotencyKeyReused extends AppError {
  readonly code = 'idempotency_key_reused';
  readonly kind = 'conflict';
  constructor(key: string) {
    super(`The Idempotency-Key ${key} came with another request before: send the very same one, or another key.`);
  }
}

/** What a queue may hold. */
export interface QueueBound {
  readonly calls: number;
  readonly bytes: number;
}

export class QueueFull extends AppError {
  readonly code = 'queue_full';
  readonly kind = 'saturated';
  override readonly retryAfterSeconds = 5;
  /** `id`: of the function whose own queue is full; undefined: all queues together are. */
  constructor(id: FunctionId | undefined, { calls, bytes }: QueueBound) {
    const [whose, settings] =
      id === undefined
        ? ['calls for later', 'INVOCATIONS_MOST and INVOCATIONS_MOST_BYTES']
        : [`calls of function ${id}`, 'INVOCATIONS_PER_FUNCTION and INVOCATIONS_BYTES_PER_FUNCTION'];
    const why = `As many ${whose} wait and run as may (${calls} calls, ${bytes} bytes: ${settings}).`;
    super(`${why} Try again when some have ended.`, { isMany: true });
  }
}
