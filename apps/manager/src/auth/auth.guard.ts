import type { Scope } from '#libs/config/api-keys.js';
import type { MetricsConfig } from '#libs/config/config.js';
import { METRICS_CONFIG } from '#libs/config/config.module.js';
import { noteKnown } from '#libs/observability/logging.module.js';
import { type CanActivate, type ExecutionContext, Inject, Injectable, SetMetadata } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { Request, Response } from 'express';
import { Access } from './access.js';
import { notePrincipal } from './audit.js';

const NEEDED = 'auth:needed';

/** Lets everybody in: for probes, which have no key. */
export const Open = () => SetMetadata(NEEDED, 'nothing');

/** Lets in keys of this scope and of `admin`. Routes without it need `admin`. */
export const Needs = (scope: Scope) => SetMetadata(NEEDED, scope);

@Injectable()
export class AuthGuard implements CanActivate {
  constructor(
    private readonly access: Access,
    private readonly reflector: Reflector,
    @Inject(METRICS_CONFIG) private readonly metrics: Pick<MetricsConfig, 'public'>,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const targets = [context.getHandler(), context.getClass()];
    const scope = this.reflector.getAllAndOverride<Scope | 'nothing' | undefined>(NEEDED, targets) ?? 'admin';
    if (scope === 'nothing' || (scope === 'metrics' && this.metrics.public)) return true;
    const request = context.switchToHttp().getRequest<Request>();
    const response = context.switchToHttp().getResponse<Response>();
    // The path as it is declared, so without what a caller put into it.
    const { path: route } = request.route as { path: string };
    notePrincipal(request, await this.access.authenticate(request, response, { scope, route }));
    noteKnown(request);
    return true;
  }
}
