import type { ServerResponse } from 'node:http';
import { AppError, type ErrorKind } from './app-error.js';
import { MethodNotAllowed } from './errors.js';

const STATUS = {
  invalid: 400,
  unauthorized: 401,
  forbidden: 403,
  not_found: 404,
  not_allowed: 405,
  conflict: 409,
  precondition_failed: 412,
  too_large: 413,
  unsupported: 415,
  unprocessable: 422,
  saturated: 429,
  failed: 500,
  not_implemented: 501,
  crashed: 502,
  unavailable: 503,
  timed_out: 504,
} as const satisfies Record<ErrorKind, number>;

/** How long a sender may pause who hasn't read yet that its request is refused. */
const LINGER_MS = 2_000;

/** An RFC 9457 problem document; `error` repeats `detail` for clients that read only that. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly error: string;
  readonly code: string;
  readonly request_id: string;
  readonly [extra: string]: unknown;
}

export function problemOf(error: AppError, requestId: string): Problem {
  return { ...problemWith(error.code, STATUS[error.kind], error.message, requestId), ...error.extras };
}

/** Where there is no error to tell of, since the request never got so far. */
export function problemWith(code: AppError['code'], status: number, detail: string, requestId: string): Problem {
  const type = `urn:service-faas:problem:${code}`;
  return { type, title: titleOf(code), status, detail, error: detail, code, request_id: requestId };
}

/**
 * Answers with the problem unless an answer has begun; then the connection is cut, so that nobody takes it for whole.
 * The request need not have been read.
 */
export function sendProblem(response: ServerResponse, error: AppError, requestId: string): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const problem = problemOf(error, requestId);
  const body = Buffer.from(JSON.stringify(problem));
  response.statusCode = problem.status;
  response.setHeader('Content-Type', 'application/problem+json; charset=utf-8');
  response.setHeader('Content-Length', body.length);
  response.setHeader('X-Request-Id', requestId);
  response.setHeader('X-Content-Type-Options', 'nosniff');
  if (error.retryAfterSeconds !== undefined) response.setHeader('Retry-After', error.retryAfterSeconds);
  if (error instanceof MethodNotAllowed) response.setHeader('Allow', error.allowed.join(', '));
  if (error.kind === 'unauthorized') response.setHeader('WWW-Authenticate', 'Bearer realm="service-faas"');
  const { req: request } = response;
  if (staysOpen(response) || request.complete || request.destroyed) {
    response.end(body);
    return;
  }
  // A connection that is closed before all has been read is reset, and its sender may lose the answer with it. So the
  // rest is read and forgotten as long as it comes; how long that may take is the server's to bound.
  response.write(body);
  const patience = setTimeout(() => response.end(), LINGER_MS);
  request
    .on('data', () => patience.refresh())
    .once('close', () => {
      clearTimeout(patience);
      response.end();
    })
    .resume();
}

function staysOpen(response: ServerResponse): boolean {
  return response.shouldKeepAlive && response.getHeader('Connection') !== 'close';
}

export function titleOf(code: string): string {
  const words = code.replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}
