import type { Scope } from '#libs/config/api-keys.js';
import { noteKnown } from '#libs/observability/logging.module.js';
import { type CanActivate, type ExecutionContext, Injectable, SetMetadata } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { Request, Response } from 'express';
import { notePrincipal } from './audit.js';
import { Authenticator } from './authenticator.js';
import { Refusals } from './refusals.js';

const NEEDED = 'auth:needed';

/** Lets everybody in: for probes, which carry no key. */
export const Open = () => SetMetadata(NEEDED, 'nothing');

/** Lets in whom a key of this scope, or of `admin`, was given to. Without it a route needs `admin`. */
export const Needs = (scope: Scope) => SetMetadata(NEEDED, scope);

@Injectable()
export class AuthGuard implements CanActivate {
  constructor(
    private readonly authenticator: Authenticator,
    private readonly refusals: Refusals,
    private readonly reflector: Reflector,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const targets = [context.getHandler(), context.getClass()];
    const scope = this.reflector.getAllAndOverride<Scope | 'nothing' | undefined>(NEEDED, targets) ?? 'admin';
    if (scope === 'nothing') return true;
    const request = context.switchToHttp().getRequest<Request>();
    const response = context.switchToHttp().getResponse<Response>();
    try {
      notePrincipal(request, this.authenticator.authenticate(request, scope));
      noteKnown(request);
    } catch (thrown) {
      throw await this.refusals.due(thrown, { scope, route: routeOf(request) }, request, response);
    }
    return true;
  }
}

/** As it is declared, so without what a caller put into it. */
function routeOf(request: Request): string {
  return (request.route as { path: string }).path;
}
