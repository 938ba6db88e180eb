import { AppError } from '#libs/errors/app-error.js';
import { isLabel, isName } from './dto/metadata.dto.js';
import { type Phase, PHASES } from './function.entity.js';
import { isFunctionId } from './function-id.js';

/** Part of the list of functions; without a limit, all of it. */
export interface Page {
  readonly limit?: number | undefined;
  /** The position of the last function of the page before. */
  readonly after?: string | undefined;
}

/** Which functions are listed: those that meet all of it. */
export interface Filter {
  readonly name?: string | undefined;
  readonly status?: Phase | undefined;
  readonly labels?: Readonly<Record<string, string>>;
  /** Labels that there must be, whatever their values. */
  readonly keys?: readonly string[];
}

export const MOST_PER_PAGE = 1_000;

export class InvalidPage extends AppError {
  readonly code = 'invalid_page';
  readonly kind = 'invalid';
  constructor(parameter: string, message: string) {
    super(message, { extras: { parameter } });
  }
}

export function pageOf({ limit, after }: { limit?: unknown; after?: unknown }): Page {
  // More digits than the database's own numbers have.
  const isPosition = (given: unknown) => isDigits(given) && given.length <= 18;
  return { limit: limitOf(limit), after: afterOf(after, isPosition) };
}

/** How many a page may hold; undefined: all. */
export function limitOf(limit: unknown, most = MOST_PER_PAGE): number | undefined {
  if (limit !== undefined && !(isDigits(limit) && Number(limit) >= 1 && Number(limit) <= most)) {
    throw new InvalidPage('limit', `limit must be a whole number from 1 to ${most}.`);
  }
  return limit === undefined ? undefined : Number(limit);
}

/** Where a page begins. `isOne`: whether it is what links to pages say. */
export function afterOf(after: unknown, isOne: (after: unknown) => boolean): string | undefined {
  if (after === undefined || isOne(after)) return after as string | undefined;
  throw new InvalidPage('after', 'after must be taken from the Link header of the page before.');
}

/** `label` may be sent several times, as `key=value` or as a key alone. */
export function filterOf({ name, status, label }: Readonly<Record<string, unknown>>): Filter {
  if (name !== undefined && !(typeof name === 'string' && (isName(name) || isFunctionId(name)))) {
    throw new InvalidPage('name', 'name must be one name, or an id.');
  }
  if (status !== undefined && !PHASES.includes(status as Phase)) {
    throw new InvalidPage('status', `status must be one of ${PHASES.join(', ')}.`);
  }
  const labels = new Map<string, string>();
  const keys = [];
  for (const one of label === undefined ? [] : [label].flat()) {
    const [key = '', value] = typeof one === 'string' ? one.split(/=(.*)/s) : [];
    if (!isLabel(key, value ?? '') || labels.has(key)) {
      throw new InvalidPage('label', 'label must be key=value or a key, each key once.');
    }
    if (value === undefined) keys.push(key);
    else labels.set(key, value);
  }
  return { name, status: status as Phase | undefined, labels: Object.fromEntries(labels), keys };
}

/** `Link` header (RFC 8288) to the page that begins after this position, of the same functions. */
export function linkToNext(
  limit: number,
  after: string,
  { name, status, labels = {}, keys = [] }: Filter = {},
): string {
  const query = new URLSearchParams();
  if (name !== undefined) query.append('name', name);
  if (status !== undefined) query.append('status', status);
  for (const [key, value] of Object.entries(labels)) query.append('label', `${key}=${value}`);
  for (const key of keys) query.append('label', key);
  query.append('limit', String(limit));
  query.append('after', after);
  return `</functions?${query.toString()}>; rel="next"`;
}

function isDigits(value: unknown): value is string {
  return typeof value === 'string' && /^\d+$/.test(value);
}
