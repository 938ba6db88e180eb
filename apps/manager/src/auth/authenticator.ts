import type { ApiKey, Scope } from '#libs/config/api-keys.js';
import { Forbidden, ForeignOrigin, Unauthorized } from '#libs/errors/errors.js';
import { hash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isOwn } from './own-origin.js';

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

/** Who may ask: holders of an API key for what it is for; without keys, programs of this machine but no foreign page. */
export class Authenticator {
  private readonly known: readonly Known[];

  constructor(
    keys: readonly ApiKey[],
    private readonly disabled: boolean,
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

  private principal(request: IncomingMessage): Principal {
    if (this.disabled) return ANYBODY;
    if (this.known.length === 0) {
      if (!isOwn(request)) throw new ForeignOrigin();
      return ANYBODY;
    }
    const key = keyOf(request);
    if (key === undefined || key === '') throw new Unauthorized('missing_key');
    const principal = this.holderOf(key);
    if (principal === undefined) throw new Unauthorized('wrong_key');
    return principal;
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
  if (typeof header === 'string') return header;
  return /^Bearer +(?<key>\S+)$/i.exec(authorization ?? '')?.groups?.['key'];
}

function digest(key: string): Buffer {
  return hash('sha256', key, 'buffer');
}
