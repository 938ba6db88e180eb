import type { StoredObject } from '../store/objects.js';
import { BadSelector, parseFieldSelector, parseLabelSelector, type Selector } from '../store/selectors.js';
import type { Store } from '../store/store.js';
import { badRequest, Refusal } from './problems.js';
import type { Resource } from './resources.js';

export function selectorOf(query: URLSearchParams, resource: Resource): Selector {
  try {
    const labels = parseLabelSelector(query.get('labelSelector') ?? '');
    const inFields = parseFieldSelector(query.get('fieldSelector') ?? '', resource.plural);
    return (object) => labels(object) && inFields(object);
  } catch (error) {
    if (error instanceof BadSelector) throw badRequest(error.message);
    throw error;
  }
}

/** Undefined where the client doesn't say, or says 0. */
export function versionOf(query: URLSearchParams): number | undefined {
  const text = query.get('resourceVersion') ?? '';
  if (text === '' || text === '0') return undefined;
  if (/^\d+$/.test(text)) return Number(text);
  const why = `strconv.ParseUint: parsing ${JSON.stringify(text)}: invalid syntax`;
  throw new Refusal(500, undefined, `resourceVersion: Invalid value: ${JSON.stringify(text)}: ${why}`);
}

/** One page of the list; `continue` names the version of the first page and the last name on this one. */
export function listPage(store: Store, resource: Resource, namespace: string | undefined, query: URLSearchParams) {
  const selector = selectorOf(query, resource);
  const token = parseToken(query.get('continue'));
  const limit = Number(query.get('limit') ?? 0) || Infinity;
  const all = store.list(resource.key, namespace).filter(selector).toSorted(byKey);
  const left = token === undefined ? all : all.filter((object) => keyOf(object) > token.after);
  const items = left.slice(0, limit);
  const version = token?.version ?? String(store.currentVersion);
  const last = items.at(-1);
  const hasMore = left.length > items.length && last !== undefined;
  return {
    kind: `${resource.kind}List`,
    apiVersion: resource.apiVersion,
    metadata: {
      resourceVersion: version,
      ...(hasMore ? { continue: makeToken(version, keyOf(last)), remainingItemCount: left.length - items.length } : {}),
    },
    // As the API server does, a list's items go without their kind.
    items: items.map((object) => ({ ...object, kind: undefined, apiVersion: undefined })),
  };
}

function byKey(a: StoredObject, b: StoredObject): number {
  return keyOf(a) < keyOf(b) ? -1 : 1;
}

function keyOf({ metadata }: StoredObject): string {
  return `${metadata.namespace ?? ''}/${metadata.name}`;
}

function makeToken(version: string, after: string): string {
  return Buffer.from(JSON.stringify({ version, after })).toString('base64url');
}

function parseToken(text: string | null): { version: string; after: string } | undefined {
  if (text === null || text === '') return undefined;
  try {
    return JSON.parse(Buffer.from(text, 'base64url').toString()) as { version: string; after: string };
  } catch {
    throw badRequest('continue key is not valid');
  }
}
