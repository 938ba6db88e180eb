import { isLoopback } from '#libs/config/listen-address.js';
import type { IncomingMessage } from 'node:http';

/** Spares nearly every call the parsing of a URL. */
const USUAL_HOST = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/;

type Headers = Pick<IncomingMessage, 'headers'>;

/**
 * Whether a request may be of a program of this machine: with DNS rebinding a page can call loopback by a name of its
 * own, and betrays itself by the Host that browsers set and pages can't change.
 */
export function isForLoopback({ headers: { host } }: Headers): boolean {
  return host === undefined || USUAL_HOST.test(host) || isLoopback(hostnameOf(`http://${host}`));
}

/**
 * Whether a request is of a program, of a page that this manager itself served under one of the schemes, or of one
 * whose origin is trusted. Any other page that the user has open, be it on another port of the same machine, can send
 * forms, and betrays itself by Origin or Sec-Fetch-Site.
 */
export function isOwn({ headers }: Headers, schemes: readonly string[], trusted: readonly string[]): boolean {
  const { host, origin, 'sec-fetch-site': site } = headers;
  if (origin !== undefined) {
    if (trusted.includes(origin)) return true;
    if (host === undefined || !schemes.some((scheme) => origin === originOf(`${scheme}://${host}`))) return false;
  }
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
