import { AppError } from './app-error.js';

/** Anything nobody foresaw; the cause goes to the log, never into the answer. */
export class InternalError extends AppError {
  readonly code = 'internal_error';
  readonly kind = 'failed';
  constructor(cause: unknown) {
    super('Something went wrong inside the manager. The log has the details under this request id.', { cause });
  }
}

export class DatabaseUnavailable extends AppError {
  readonly code = 'database_unavailable';
  readonly kind = 'unavailable';
  override readonly retryAfterSeconds = 5;
  constructor(cause: unknown) {
    super("The database can't be reached. Nothing was changed; try again.", { cause });
  }
}

export class Unauthorized extends AppError {
  readonly code = 'unauthorized';
  readonly kind = 'unauthorized';
  constructor(readonly reason: 'missing_key' | 'wrong_key' = 'missing_key') {
    super('Send a valid API key as "Authorization: Bearer <key>" or "X-Api-Key: <key>".', { isMany: true });
  }
}

/** The key is known, and is for something else. */
export class Forbidden extends AppError {
  readonly code = 'forbidden';
  readonly kind = 'forbidden';
  constructor(
    readonly keyName: string,
    scope: string,
    needed: string,
  ) {
    super(`The key "${keyName}" is of scope ${scope}: this needs one of scope ${needed}${orAdmin(needed)}.`, {
      isMany: true,
    });
  }
}

function orAdmin(needed: string): string {
  return needed === 'admin' ? '' : ' or admin';
}

/** Nothing is said about who else is behind the address: a valid key is let in all the same. */
export class TooManyAttempts extends AppError {
  readonly code = 'too_many_attempts';
  readonly kind = 'saturated';
  constructor(override readonly retryAfterSeconds: number) {
    super('Too many requests with wrong API keys came from this address. A valid key is let in at any time.', {
      isMany: true,
    });
  }
}

export class ForeignOrigin extends AppError {
  readonly code = 'foreign_origin';
  readonly kind = 'forbidden';
  constructor() {
    super(
      "Without API keys this manager answers only programs and its own pages, no other web page. Configure API_KEYS, or name the page's origin in CORS_ORIGINS.",
      { isMany: true },
    );
  }
}

export class RouteNotFound extends AppError {
  readonly code = 'route_not_found';
  readonly kind = 'not_found';
  constructor(method: string, path: string) {
    super(`There is no ${method} ${path.slice(0, 200)}. See /docs for what there is.`);
  }
}

export class MethodNotAllowed extends AppError {
  readonly code = 'method_not_allowed';
  readonly kind = 'not_allowed';
  constructor(
    method: string,
    path: string,
    readonly allowed: readonly string[],
  ) {
    super(`${path.slice(0, 200)} knows no ${method}, only ${allowed.join(', ')}.`);
  }
}

export class InvalidRequest extends AppError {
  readonly code = 'invalid_request';
  readonly kind = 'invalid';
  /** `parameter` is the query parameter at fault, where it is one. */
  constructor(message: string, parameter?: string) {
    super(message, parameter === undefined ? {} : { extras: { parameter } });
  }
}

export class UnknownParameter extends InvalidRequest {
  constructor(name: string, known: readonly string[]) {
    const shown = name.slice(0, 64);
    const others = known.length === 0 ? 'This takes none.' : `Known: ${known.join(', ')}.`;
    super(`There is no query parameter ${JSON.stringify(shown)}. ${others}`, shown);
  }
}

export class UnsupportedTransferCoding extends AppError {
  readonly code = 'unsupported_transfer_coding';
  readonly kind = 'not_implemented';
  constructor(coding: string) {
    super(`Transfer-Encoding ${JSON.stringify(coding.slice(0, 40))} is not supported: only chunked is.`);
  }
}

export class UnsupportedEncoding extends AppError {
  readonly code = 'unsupported_encoding';
  readonly kind = 'unsupported';
  constructor(encoding: string) {
    super(`Content-Encoding ${encoding.slice(0, 40)} is not supported: send the body uncompressed.`);
  }
}
