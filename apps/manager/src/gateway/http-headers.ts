import { addressOf } from '#libs/observability/client-address.js';
import type { IncomingMessage } from 'node:http';

/** Of one connection (RFC 9110, 7.6.1), or of the framing that each hop makes anew. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
]);
/** What the manager says itself, or answers. */
const OWN: ReadonlySet<string> = new Set([
  'content-length',
  'expect',
  'host',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-prefix',
  'x-forwarded-proto',
  'x-request-id',
]);
const OWN_PREFIX = 'x-faas-';
/** By these a worker knows that a web page calls it, and refuses: it gets those of its callers under other names. */
const RENAMED: ReadonlySet<string> = new Set(['origin', 'sec-fetch-site']);
/** They reach beyond the paths of one function. */
const OF_THE_ORIGIN: ReadonlySet<string> = new Set([
  'alt-svc',
  'clear-site-data',
  'nel',
  'report-to',
  'reporting-endpoints',
  'service-worker-allowed',
  'strict-transport-security',
]);
const SCOPE_OF_COOKIE = /^\s*(?:domain|path)\s*(?:=|$)/i;
const PATH_OF_COOKIE = /^\s*path\s*=\s*(.*?)\s*$/i;
const MOST_HEADERS = 160;
const MOST_HEADER_BYTES = 20 * 1024;
const LENGTH = /^\d{1,15}$/;

/** Where a function is called. */
export interface Mount {
  /** The path before its own; empty where it has a host of its own. */
  readonly root: string;
}

/** The headers that a handler gets of a request, by name and value in turn. `withheld`: names that hold API keys. */
export function headersForWorker(
  request: IncomingMessage,
  { root }: Mount,
  withheld: readonly string[],
  requestId: string,
): string[] {
  const { rawHeaders, headers } = request;
  const host = headers.host ?? 'localhost';
  const dropped = connectionOptions(headers.connection);
  const found = ['host', host];
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = (rawHeaders[index] as string).toLowerCase();
    if (HOP_BY_HOP.has(name) || OWN.has(name) || name.startsWith(OWN_PREFIX)) continue;
    if (withheld.includes(name) || dropped?.has(name) === true) continue;
    found.push(RENAMED.has(name) ? `${OWN_PREFIX}header-${name}` : name, rawHeaders[index + 1] as string);
  }
  const before = headers['x-forwarded-for'];
  const address = addressOf(request);
  found.push(
    'x-forwarded-for',
    typeof before === 'string' && before !== '' ? `${before}, ${address}` : address,
    'x-forwarded-host',
    first(headers['x-forwarded-host']) ?? host,
    'x-forwarded-proto',
    first(headers['x-forwarded-proto']) ?? 'http',
    'x-request-id',
    requestId,
  );
  if (root !== '') found.push('x-forwarded-prefix', root, 'x-faas-root', root);
  return found;
}

/** Those of a request for a WebSocket: without extensions, so that frames pass as they are and none of them unfolds. */
export function handshakeForWorker(headers: readonly string[]): string[] {
  return headers.filter((_, index) => headers[index - (index % 2)] !== 'sec-websocket-extensions');
}

/** Names that the sender of a request means for the next hop alone. */
function connectionOptions(value: string | undefined): ReadonlySet<string> | undefined {
  if (value === undefined || /^(keep-alive|close)$/i.test(value)) return undefined;
  return new Set(value.split(',').map((name) => name.trim().toLowerCase()));
}

function first(value: string | readonly string[] | undefined): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** The headers of a handler's answer as they go out, by name and value in turn; or what is wrong with them. */
export function headersOfHandler(
  headers: Readonly<Record<string, unknown>>,
  { root }: Mount,
): { readonly pairs: string[] } | { readonly fault: string } {
  const pairs: string[] = [];
  let bytes = 0;
  for (const [name, value] of Object.entries(headers)) {
    for (const one of Array.isArray(value) ? (value as unknown[]) : [value]) {
      if (typeof one !== 'string') continue;
      bytes += name.length + one.length;
      if (pairs.length >= MOST_HEADERS * 2) return { fault: `it has more than ${MOST_HEADERS} headers` };
      if (bytes > MOST_HEADER_BYTES) return { fault: `its headers have more than ${MOST_HEADER_BYTES} bytes` };
      if (HOP_BY_HOP.has(name) || name.startsWith(OWN_PREFIX) || name === 'x-request-id') continue;
      if (root !== '' && OF_THE_ORIGIN.has(name)) continue;
      if (name === 'content-length' && !LENGTH.test(one)) return { fault: 'its Content-Length is no length' };
      pairs.push(name, root !== '' && name === 'set-cookie' ? cookieBelow(root, one) : one);
    }
  }
  return { pairs };
}

/** The cookie for requests of this function alone: all that are called by their paths have one host. */
function cookieBelow(root: string, cookie: string): string {
  const [pair = '', ...attributes] = cookie.split(';');
  const path = attributes
    .map((attribute) => PATH_OF_COOKIE.exec(attribute)?.[1])
    .findLast((found) => found !== undefined);
  const kept = attributes.filter((attribute) => !SCOPE_OF_COOKIE.test(attribute));
  return [pair, ...kept, ` Path=${path?.startsWith(`${root}/`) === true ? path : root}`].join(';');
}
