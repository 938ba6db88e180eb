import { InvalidRequest } from '#libs/errors/errors.js';
import type { Choice } from '../traffic/traffic.js';

/** What a request says of it. */
interface Asked {
  readonly headers: Readonly<Record<string, unknown>>;
  readonly query?: Readonly<Record<string, unknown>>;
}

/** The revision that a call asks for, by its query or by a key; undefined: it leaves that to its function. */
export function choiceOf(request: Asked): Choice | undefined {
  const { 'x-faas-sticky': key } = request.headers;
  // Calls without a query come straight from Node's server.
  const { revision, tag } = request.query ?? {};
  if (revision !== undefined) return { revision: numberIn(revision) };
  if (tag !== undefined) return { tag: textIn(tag) };
  return typeof key === 'string' ? { stickyKey: key } : undefined;
}

/** The same of an HTTP call, whose query is its function's. */
export function headerChoiceOf({ headers }: Asked): Choice | undefined {
  const { 'x-faas-revision': revision, 'x-faas-tag': tag, 'x-faas-sticky': key } = headers;
  if (revision !== undefined) return { revision: numberIn(revision, 'header X-Faas-Revision') };
  if (tag !== undefined) return { tag: textIn(tag, 'header X-Faas-Tag') };
  return typeof key === 'string' ? { stickyKey: key } : undefined;
}

function numberIn(value: unknown, where = 'query parameter revision'): number {
  if (typeof value === 'string' && /^[1-9]\d{0,8}$/.test(value)) return Number(value);
  throw new InvalidRequest(`The ${where} must be the number of a revision.`, 'revision');
}

function textIn(value: unknown, where = 'query parameter tag'): string {
  if (typeof value === 'string' && value.length <= 63) return value;
  throw new InvalidRequest(`The ${where} must be the tag of a target of the traffic.`, 'tag');
}
