import { isLoopback } from '#libs/config/listen-address.js';
import type { IncomingMessage } from 'node:http';

/** Spares nearly every call the parsing of a URL. */
const USUAL_HOST = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/;

/**
 * Whether a request may be of a program of this machine, or of a page that this manager itself served. A page that the
 * user has open elsewhere, be it on another port of this machine, can send forms to loopback, and with DNS rebinding
 * read the answers: it betrays itself by the Host, Origin or Sec-Fetch-Site that browsers set and pages can't change.
 */
export function isOwn({ headers }: Pick<IncomingMessage, 'headers'>): boolean {
  const { host, origin, 'sec-fetch-site': site } = headers;
  if (host !== undefined && !USUAL_HOST.test(host) && !isLoopback(hostnameOf(`http://${host}`))) return false;
  if (origin !== undefined && (host === undefined || origin !== originOf(`http://${host}`))) return false;
  return site === undefined || site === 'same-origin' || site === 'none';
}

function hostnameOf(url: string): string {
  const hostname = URL.canParse(url) ? new URL(url).hostname : '';
  return hostname.replace(/^\[(.*)\]$/, '$1');
}

/** As browsers write it: in lower case, and without the scheme's own port. */
function originOf(url: string): string | undefined {
  return URL.canParse(url) ? new URL(url).origin : undefined;
}
