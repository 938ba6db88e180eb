import { AppError } from '#libs/errors/app-error.js';

/** Requests in flight keep as much as this manager may keep in memory. */
export class ManagerOverloaded extends AppError {
  readonly code = 'manager_overloaded';
  readonly kind = 'saturated';
  override readonly retryAfterSeconds = 1;
  constructor(limitBytes: number) {
    super(
      `This manager holds as many requests as its memory allows (${limitBytes} bytes). Try again, or add managers or raise MAX_HELD_BYTES.`,
      { extras: { limit_bytes: limitBytes }, isMany: true },
    );
  }
}

/** The calls of one function keep as much as one function may keep in this manager's memory. */
export class CallsTooLarge extends AppError {
  readonly code = 'function_overloaded';
  readonly kind = 'saturated';
  override readonly retryAfterSeconds = 1;
  constructor(limitBytes: number) {
    super(
      `The function's calls and their answers hold as much as one function may (${limitBytes} bytes). Try again, or send and read them faster.`,
      { extras: { limit_bytes: limitBytes }, isMany: true },
    );
  }
}
