import { isLabel, isName } from './dto/metadata.dto.js';
import { type Phase, PHASES } from './function.entity.js';
import { isFunctionId } from './function-id.js';
import { afterOf, InvalidPage, isDigits, limitOf } from '../http/pages.js';

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

export function pageOf({ limit, after }: { limit?: unknown; after?: unknown }): Page {
  // More digits than the database's own numbers have.
  const isPosition = (given: unknown) => isDigits(given) && given.length <= 18;
  return { limit: limitOf(limit), after: afterOf(after, isPosition) };
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

/** What lists these functions. */
export function queryOf({ name, status, labels = {}, keys = [] }: Filter): URLSearchParams {
  const query = new URLSearchParams();
  if (name !== undefined) query.append('name', name);
  if (status !== undefined) query.append('status', status);
  for (const [key, value] of Object.entries(labels)) query.append('label', `${key}=${value}`);
  for (const key of keys) query.append('label', key);
  return query;
}
