import { randomUUIDv7 } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

const ACCEPTABLE = /^[A-Za-z0-9._-]{1,64}$/;
const KEY = Symbol('requestId');

type Carrier = IncomingMessage & { [KEY]?: string };

/**
 * The request's id: the caller's `X-Request-Id` when it is short and plain (it goes into logs and headers), else a
 * fresh one. The same for every question about the same request.
 */
export function requestIdOf(request: IncomingMessage): string {
  const carrier = request as Carrier;
  const known = carrier[KEY];
  if (known !== undefined) return known;
  const given = request.headers['x-request-id'];
  const id = typeof given === 'string' && ACCEPTABLE.test(given) ? given : randomUUIDv7();
  carrier[KEY] = id;
  return id;
}

/** The request's id where it is a fresh one, a UUID that no other request has; undefined: its caller chose it. */
export function freshIdOf(request: IncomingMessage): string | undefined {
  const id = requestIdOf(request);
  return id === request.headers['x-request-id'] ? undefined : id;
}
