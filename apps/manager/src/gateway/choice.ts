import { InvalidRequest } from '#libs/errors/errors.js';
import type { Choice } from '../traffic/traffic.js';

/** What a request says of it. */
interface Asked {
  readonly headers: Readonly<Record<string, unknown>>;
  readonly query?: Readonly<Record<string, unknown>>;
}

/** By what a call names its revision. */
interface Names {
  readonly kind: 'query parameter' | 'header';
  readonly revision: string;
  readonly tag: string;
}

const PARAMETERS: Names = { kind: 'query parameter', revision: 'revision', tag: 'tag' };
const HEADERS: Names = { kind: 'header', revision: 'X-Faas-Revision', tag: 'X-Faas-Tag' };

/** The revision that a call asks for, by its query or by a key; undefined: it leaves that to its function. */
export function choiceOf(request: Asked): Choice | undefined {
  const { 'x-faas-sticky': key } = request.headers;
  // Calls without a query come straight from Node's server.
  const { revision, tag } = request.query ?? {};
  return choiceIn(revision, tag, key, PARAMETERS);
}

/** The same of an HTTP call, whose query is its function's. */
export function headerChoiceOf({ headers }: Asked): Choice | undefined {
  const { 'x-faas-revision': revision, 'x-faas-tag': tag, 'x-faas-sticky': key } = headers;
  return choiceIn(revision, tag, key, HEADERS);
}

function choiceIn(revision: unknown, tag: unknown, key: unknown, names: Names): Choice | undefined {
  if (revision !== undefined) {
    if (tag !== undefined) throw refused(names, names.tag, `Send ${names.revision} or ${names.tag}, not both.`);
    return { revision: numberIn(revision, names) };
  }
  if (tag !== undefined) return { tag: textIn(tag, names) };
  return typeof key === 'string' ? { stickyKey: key } : undefined;
}

function numberIn(value: unknown, names: Names): number {
  if (typeof value === 'string' && /^[1-9]\d{0,8}$/.test(value)) return Number(value);
  const { kind, revision } = names;
  throw refused(names, revision, `The ${kind} ${revision} must be the number of a revision.`);
}

function textIn(value: unknown, names: Names): string {
  if (typeof value === 'string' && value.length <= 63) return value;
  throw refused(names, names.tag, `The ${names.kind} ${names.tag} must be the tag of a target of the traffic.`);
}

function refused({ kind }: Names, name: string, message: string): InvalidRequest {
  return kind === 'header' ? new InvalidRequest(message).with({ field: name }) : new InvalidRequest(message, name);
}
