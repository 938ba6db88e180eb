import { InvalidRequest } from '#libs/errors/errors.js';
import { isJsonObject } from '#libs/json/json-scan.js';
import { timeOf } from '#libs/json/time.js';
import { afterOf, InvalidPage, limitOf } from '../http/pages.js';
import { InvalidInvocation } from './errors.js';
import { CALL_KINDS } from '../gateway/call-ends.js';
import { CALL_STATUSES } from '../history/call.js';
import type { CallFilter } from '../history/history.repository.js';
import { FIRST_ID, firstIdOf, LAST_ID } from './days.js';
import { REPLAYED, type Replayed, STATUSES } from './invocation.js';
import type { ListFilter } from './invocation.repository.js';

export const DEFAULT_LIMIT = 50;
const MOST_IDS = 1_000;
const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const CODE = /^[a-z_]{1,64}$/;
const REVISION = /^[1-9]\d{0,8}$/;

/** What became of calls of all kinds. */
export const ALL_STATUSES = [
  ...STATUSES,
  ...CALL_STATUSES.filter((one) => !(STATUSES as readonly string[]).includes(one)),
];

export function isInvocationId(text: unknown): text is string {
  return typeof text === 'string' && ID.test(text);
}

type Query = Readonly<Record<string, unknown>>;

export function listFilterOf(query: Query): ListFilter {
  const { limit, after, revision, code } = query;
  if (revision !== undefined && !(typeof revision === 'string' && REVISION.test(revision))) {
    throw new InvalidPage('revision', 'revision must be the number of a revision.');
  }
  if (code !== undefined && !(typeof code === 'string' && CODE.test(code))) {
    throw new InvalidPage('code', 'code must be the code of a problem, such as handler_error.');
  }
  return {
    status: oneOf(ALL_STATUSES, query, 'status'),
    kind: oneOf(CALL_KINDS, query, 'kind'),
    revision: revision === undefined ? undefined : Number(revision),
    code,
    since: timeIn(query, 'since'),
    until: timeIn(query, 'until'),
    after: afterOf(after, isInvocationId),
    limit: limitOf(limit) ?? DEFAULT_LIMIT,
  };
}

function oneOf<T extends string>(known: readonly T[], query: Query, name: string): T | undefined {
  const { [name]: value } = query;
  const found = known.find((one) => one === value);
  if (value === undefined || found !== undefined) return found;
  throw new InvalidPage(name, `${name} must be one of ${known.join(', ')}.`);
}

function timeIn(query: Query, name: string): Date | undefined {
  const { [name]: value } = query;
  if (value === undefined) return undefined;
  const time = timeOf(value);
  if (time !== undefined) return time;
  throw new InvalidRequest(`${name} must be a time such as 2026-11-23T12:00:00Z (RFC 3339).`, name);
}

/** What lists these calls. */
export function queryOf({ status, kind, revision, code, since, until }: ListFilter): URLSearchParams {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ status, kind, revision, code })) {
    if (value !== undefined) query.append(name, String(value));
  }
  if (since !== undefined) query.append('since', since.toISOString());
  if (until !== undefined) query.append('until', until.toISOString());
  return query;
}

/** Which dead calls a redrive names; null: all of them. */
export function redriveIn(body: unknown): readonly string[] | null {
  if (!isJsonObject(body)) throw new InvalidInvocation('body', 'Send a JSON object, such as {}.');
  const unknown = Object.keys(body).find((name) => name !== 'ids');
  if (unknown !== undefined) {
    const shown = unknown.slice(0, 64);
    throw new InvalidInvocation(shown, `There is no member ${JSON.stringify(shown)}. Known: ids.`);
  }
  const { ids } = body;
  if (ids === undefined || ids === null) return null;
  const areIds = Array.isArray(ids) && ids.every(isInvocationId);
  if (areIds && ids.length <= MOST_IDS) return ids;
  throw new InvalidInvocation('ids', `ids must be a list of at most ${MOST_IDS} ids of invocations.`);
}

/** The same for calls that are known by their ids alone, which have the time of their start. */
export function callFilterOf({ status, kind, revision, code, since, until, after, limit }: ListFilter): CallFilter {
  const last = until === undefined ? LAST_ID : firstIdOf(until);
  return {
    status,
    kind,
    revision,
    code,
    from: since === undefined ? FIRST_ID : firstIdOf(since),
    before: after !== undefined && after < last ? after : last,
    limit,
  };
}

/** Which revision a replay asks for. */
export function replayIn(body: unknown): Replayed {
  if (!isJsonObject(body)) throw new InvalidInvocation('body', 'Send a JSON object, such as {"revision": "same"}.');
  const unknown = Object.keys(body).find((name) => name !== 'revision');
  if (unknown !== undefined) {
    const shown = unknown.slice(0, 64);
    throw new InvalidInvocation(shown, `There is no member ${JSON.stringify(shown)}. Known: revision.`);
  }
  const { revision = 'newest' } = body;
  const known = REPLAYED.find((one) => one === revision);
  if (known !== undefined) return known;
  throw new InvalidInvocation('revision', `revision must be ${REPLAYED.join(' or ')}.`);
}
