import type { ApiKey, Scope } from '#libs/config/api-keys.js';
import { Forbidden, ForeignOrigin, Unauthorized } from '#libs/errors/errors.js';
import { hash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isForLoopback, isOwn } from './own-origin.js';

/** Who asks. Without keys nobody has a name. */
export interface Principal {
  readonly key: string | undefined;
  readonly scope: Scope;
}

const ANYBODY: Principal = { key: undefined, scope: 'admin' };

interface Known {
  readonly digest: Buffer;
  readonly principal: Principal;
}

/**
 * Who may ask: holders of an API key for what it is for; without keys, programs and pages of its own, no other page.
 */
export class Authenticator {
  private readonly known: readonly Known[];

  constructor(
    keys: readonly ApiKey[],
    /** Programs of any machine are let in without a key. */
    private readonly disabled: boolean,
    /** Origins whose pages are let in as its own are. */
    private readonly trusted: readonly string[] = [],
  ) {
    this.known = keys.map(({ name, scope, secret }) => ({ digest: digest(secret), principal: { key: name, scope } }));
  }

  /** Who asks for what needs the scope. Throws {@link Unauthorized}, {@link Forbidden} or {@link ForeignOrigin}. */
  authenticate(request: IncomingMessage, needed: Scope): Principal {
    const principal = this.principal(request);
    const { key, scope } = principal;
    if (scope !== needed && scope !== 'admin') throw new Forbidden(key ?? '', scope, needed);
    return principal;
  }

  /** The names of the headers that hold one of the keys. */
  keyHeaders({ headers, rawHeaders }: IncomingMessage): readonly string[] {
    if (this.known.length === 0 || (headers.authorization ?? headers['x-api-key']) === undefined) return [];
    const found = new Set<string>();
    // Each line by itself: of several, Node keeps the first or joins them.
    for (let index = 0; index < rawHeaders.length; index += 2) {
      const name = (rawHeaders[index] as string).toLowerCase();
      if (name !== 'authorization' && name !== 'x-api-key') continue;
      const value = rawHeaders[index + 1] as string;
      const key = name === 'authorization' ? bearerOf(value) : value;
      if (key !== undefined && this.holderOf(key) !== undefined) found.add(name);
    }
    return [...found];
  }

  private principal(request: IncomingMessage): Principal {
    if (this.known.length === 0) {
      if (!this.isWelcome(request)) throw new ForeignOrigin();
      return ANYBODY;
    }
    const key = keyOf(request);
    if (key === undefined || key === '') throw new Unauthorized('missing_key');
    const principal = this.holderOf(key);
    if (principal === undefined) throw new Unauthorized('wrong_key');
    return principal;
  }

  /** Behind a proxy it is called under any name, and the proxy may speak HTTPS. */
  private isWelcome(request: IncomingMessage): boolean {
    if (this.disabled) return isOwn(request, ['http', 'https'], this.trusted);
    return isForLoopback(request) && isOwn(request, ['http'], this.trusted);
  }

  private holderOf(key: string): Principal | undefined {
    const given = digest(key);
    let holder: Principal | undefined;
    // Every key is compared, so that the time taken tells nothing about which was nearly right.
    for (const { digest: expected, principal } of this.known) {
      if (timingSafeEqual(given, expected)) holder = principal;
    }
    return holder;
  }
}

function keyOf(request: IncomingMessage): string | undefined {
  const { authorization, 'x-api-key': header } = request.headers;
  return typeof header === 'string' ? header : bearerOf(authorization);
}

function bearerOf(authorization: string | undefined): string | undefined {
  return /^Bearer +(?<key>\S+)$/i.exec(authorization ?? '')?.groups?.['key'];
}

function digest(key: string): Buffer {
  return hash('sha256', key, 'buffer');
}
