import { InvalidRequest } from '#libs/errors/errors.js';
import { isJsonObject } from '#libs/json/json-scan.js';
import { timeOf } from '#libs/json/time.js';
import { InvalidPage } from '../functions/page.js';
import { InvalidInvocation } from './errors.js';
import { STATUSES } from './invocation.js';
import type { ListFilter } from './invocation.repository.js';

export const DEFAULT_LIMIT = 50;
export const MOST_PER_PAGE = 1_000;
const MOST_IDS = 1_000;
const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export function isInvocationId(text: string): boolean {
  return ID.test(text);
}

type Query = Readonly<Record<string, unknown>>;

export function listFilterOf(query: Query): ListFilter {
  const { status, limit, after } = query;
  const known = STATUSES.find((one) => one === status);
  if (status !== undefined && known === undefined) {
    throw new InvalidPage('status', `status must be one of ${STATUSES.join(', ')}.`);
  }
  const count = limit === undefined ? DEFAULT_LIMIT : Number(limit);
  if (
    limit !== undefined &&
    !(typeof limit === 'string' && /^\d{1,4}$/.test(limit) && count >= 1 && count <= MOST_PER_PAGE)
  ) {
    throw new InvalidPage('limit', `limit must be a whole number from 1 to ${MOST_PER_PAGE}.`);
  }
  if (after !== undefined && !(typeof after === 'string' && isInvocationId(after))) {
    throw new InvalidPage('after', 'after must be taken from the Link header of the page before.');
  }
  return { status: known, since: timeIn(query, 'since'), until: timeIn(query, 'until'), after, limit: count };
}

function timeIn(query: Query, name: string): Date | undefined {
  const { [name]: value } = query;
  if (value === undefined) return undefined;
  const time = timeOf(value);
  if (time !== undefined) return time;
  throw new InvalidRequest(`${name} must be a time such as 2026-11-23T12:00:00Z (RFC 3339).`, name);
}

/** `Link` header (RFC 8288) to the page after this call, of the same calls. */
export function linkToNext(reference: string, { status, since, until, limit }: ListFilter, after: string): string {
  const query = new URLSearchParams();
  if (status !== undefined) query.append('status', status);
  if (since !== undefined) query.append('since', since.toISOString());
  if (until !== undefined) query.append('until', until.toISOString());
  query.append('limit', String(limit));
  query.append('after', after);
  return `</functions/${encodeURIComponent(reference)}/invocations?${query.toString()}>; rel="next"`;
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
  const areIds = Array.isArray(ids) && ids.every((id) => typeof id === 'string' && isInvocationId(id));
  if (areIds && ids.length <= MOST_IDS) return ids as string[];
  throw new InvalidInvocation('ids', `ids must be a list of at most ${MOST_IDS} ids of invocations.`);
}
