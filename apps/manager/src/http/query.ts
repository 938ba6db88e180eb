import { UnknownParameter } from '#libs/errors/errors.js';
import {
  applyDecorators,
  type CallHandler,
  type ExecutionContext,
  Injectable,
  type NestInterceptor,
} from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { ApiQuery, type ApiQueryOptions } from '@nestjs/swagger';
import type { Request } from 'express';

const KNOWN = 'http:known-parameters';

/** Documents a query parameter of a route, and lets it pass: those that no route declares are refused. */
export function QueryParameter(options: ApiQueryOptions & { readonly name: string }): MethodDecorator {
  return applyDecorators(ApiQuery(options), (_target: object, _key: unknown, { value }: PropertyDescriptor) => {
    const known = (Reflect.getMetadata(KNOWN, value as object) as string[] | undefined) ?? [];
    Reflect.defineMetadata(KNOWN, [options.name, ...known], value as object);
  });
}

/** Refuses query parameters that the route doesn't declare, so that no typo passes in silence. */
@Injectable()
export class KnownParameters implements NestInterceptor {
  constructor(private readonly reflector: Reflector) {}

  intercept(context: ExecutionContext, next: CallHandler) {
    const known = this.reflector.get<string[] | undefined>(KNOWN, context.getHandler()) ?? [];
    const given = Object.keys(context.switchToHttp().getRequest<Request>().query);
    const unknown = given.find((name) => !known.includes(name));
    if (unknown !== undefined) throw new UnknownParameter(unknown, known);
    return next.handle();
  }
}
