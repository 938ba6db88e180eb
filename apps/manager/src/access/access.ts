import type { AuthConfig } from '#libs/config/config.js';
import { AUTH_CONFIG } from '#libs/config/config.module.js';
import { isLoopback } from '#libs/config/listen-address.js';
import { ForeignOrigin, Unauthorized } from '#libs/errors/errors.js';
import { Inject, Injectable } from '@nestjs/common';
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

/** Who may ask: holders of an API key; without keys, programs of this machine but no web page of another site. */
@Injectable()
export class Access {
  private readonly digests: readonly Buffer[];

  constructor(@Inject(AUTH_CONFIG) private readonly config: AuthConfig) {
    this.digests = config.apiKeys.map(digest);
  }

  /** Throws {@link Unauthorized} or {@link ForeignOrigin}. */
  check(request: IncomingMessage): void {
    if (this.config.disabled) return;
    if (this.digests.length === 0) checkLocal(request);
    else if (!this.knows(keyOf(request))) throw new Unauthorized();
  }

  private knows(key: string | undefined): boolean {
    if (key === undefined) return false;
    const given = digest(key);
    // Every key is compared, so that the time taken tells nothing about which was nearly right.
    return this.digests.reduce((known, expected) => timingSafeEqual(given, expected) || known, false);
  }
}

/** Spares nearly every call the parsing of a URL. */
const USUAL_HOST = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/;

/**
 * A page the user has open elsewhere can send forms to loopback, and with DNS rebinding read the answers: both betray
 * themselves by the Host, Origin or Sec-Fetch-Site that browsers set and pages can't change.
 */
function checkLocal(request: IncomingMessage): void {
  const { host, origin, 'sec-fetch-site': site } = request.headers;
  if (host !== undefined && !USUAL_HOST.test(host) && !isLoopback(hostnameOf(`http://${host}`)))
    throw new ForeignOrigin();
  if (origin !== undefined && !isLoopback(hostnameOf(origin))) throw new ForeignOrigin();
  if (site === 'cross-site') throw new ForeignOrigin();
}

function hostnameOf(url: string): string {
  const hostname = URL.canParse(url) ? new URL(url).hostname : '';
  return hostname.replace(/^\[(.*)\]$/, '$1');
}

function keyOf(request: IncomingMessage): string | undefined {
  const { authorization, 'x-api-key': header } = request.headers;
  if (typeof header === 'string') return header;
  return /^Bearer +(?<key>\S+)$/i.exec(authorization ?? '')?.groups?.['key'];
}

function digest(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}
