import type { Scope } from '#libs/config/api-keys.js';
import { AppError } from '#libs/errors/app-error.js';
import { Forbidden } from '#libs/errors/errors.js';
import { requestIdOf } from '#libs/errors/request-id.js';
import { addressOf } from '#libs/observability/client-address.js';
import { LOGGER } from '#libs/observability/logging.module.js';
import { Inject, Injectable } from '@nestjs/common';
import type { IncomingMessage } from 'node:http';
import type { Logger } from 'pino';
import type { Principal } from './authenticator.js';

type Action =
  | 'add'
  | 'run'
  | 'update'
  | 'remove'
  | 'add revision'
  | 'remove revision'
  | 'roll back'
  | 'set traffic'
  | 'put secret'
  | 'remove secret'
  | 'redrive'
  | 'put schedule'
  | 'remove schedule'
  | 'replay';

const PRINCIPAL = Symbol('principal');

// A property: a weak map of all requests would cost the garbage collector more than all else that a call leaves.
type Known = IncomingMessage & { [PRINCIPAL]?: Principal };

/** Remembers who sent a request. */
export function notePrincipal(request: IncomingMessage, principal: Principal): void {
  (request as Known)[PRINCIPAL] = principal;
}

function principalOf(request: IncomingMessage): Principal | undefined {
  return (request as Known)[PRINCIPAL];
}

/** The name of the key that a request came with; null: it came without. */
export function keyOf(request: IncomingMessage): string | null {
  return principalOf(request)?.key ?? null;
}

/** What its key may do; all where it came without. */
export function scopeOf(request: IncomingMessage): Scope {
  return principalOf(request)?.scope ?? 'admin';
}

/** For a part of a request that needs more than its route. Throws {@link Forbidden} unless its key may do all. */
export function requireAdmin(request: IncomingMessage): void {
  const scope = scopeOf(request);
  if (scope !== 'admin') throw new Forbidden(keyOf(request) ?? 'default', scope, 'admin');
}

/** Logs one line for each requested change: who requested it, from where, and its outcome. */
@Injectable()
export class Audit {
  private readonly logger: Logger;

  constructor(@Inject(LOGGER) logger: Logger) {
    const level = logger.level === 'silent' ? 'silent' : 'info';
    // LOG_LEVEL doesn't leave these lines out.
    this.logger = logger.child({ audit: true }, { level });
  }

  /** Runs `work`. `name` takes the function's id as soon as it is known; `of` is noted of what isn't a function. */
  async of<T>(
    action: Action,
    request: IncomingMessage,
    work: (name: (functionId: string) => void) => Promise<T>,
    of: { readonly secret?: string; readonly schedule?: string } = {},
  ): Promise<T> {
    let functionId: string | null = null;
    let outcome = 'ok';
    try {
      return await work((id) => (functionId = id));
    } catch (error) {
      outcome = error instanceof AppError ? error.code : 'internal_error';
      throw error;
    } finally {
      const who = { key: keyOf(request), address: addressOf(request), requestId: requestIdOf(request) };
      this.logger.info({ action, functionId, ...of, outcome, ...who }, 'change asked for');
    }
  }
}
