import { type CanActivate, type ExecutionContext, Injectable, SetMetadata } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { Request } from 'express';
import { Access } from './access.js';

const OPEN = 'access:open';

/** Lets everybody in: for probes, which carry no key. */
export const Open = () => SetMetadata(OPEN, true);

@Injectable()
export class AccessGuard implements CanActivate {
  constructor(
    private readonly access: Access,
    private readonly reflector: Reflector,
  ) {}

  canActivate(context: ExecutionContext): boolean {
    const open = this.reflector.getAllAndOverride<boolean | undefined>(OPEN, [
      context.getHandler(),
      context.getClass(),
    ]);
    if (open !== true) this.access.check(context.switchToHttp().getRequest<Request>());
    return true;
  }
}
