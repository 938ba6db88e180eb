import {
  type ArgumentsHost,
  BadRequestException,
  Catch,
  type ExceptionFilter,
  HttpException,
  Injectable,
  NotFoundException,
} from '@nestjs/common';
import type { Request, Response } from 'express';
import { AppError } from './app-error.js';
import { InternalError, InvalidRequest, MethodNotAllowed, RouteNotFound } from './errors.js';
import { ProblemLog } from './problem-log.js';
import { sendProblem } from './problem.js';
import { requestIdOf } from './request-id.js';

/** The one place where Nest's errors become answers. */
@Catch()
@Injectable()
export class ProblemFilter implements ExceptionFilter {
  constructor(private readonly problems: ProblemLog) {}

  catch(thrown: unknown, host: ArgumentsHost): void {
    const http = host.switchToHttp();
    const request = http.getRequest<Request>();
    const error = noMethod(thrown, request) ?? asAppError(thrown, request.method, request.path);
    if (error instanceof MethodNotAllowed && request.method === 'OPTIONS') {
      http.getResponse<Response>().status(204).set('Allow', error.allowed.join(', ')).end();
      return;
    }
    this.problems.note(error, request);
    sendProblem(http.getResponse<Response>(), error, requestIdOf(request));
  }
}

interface Layer {
  readonly route?: { readonly methods: Readonly<Record<string, boolean>> };
  match(path: string): boolean;
}

/** Whether nothing was found because the path is known under other methods only. */
function noMethod(thrown: unknown, { app, method, path }: Request): MethodNotAllowed | undefined {
  if (!(thrown instanceof NotFoundException)) return undefined;
  const layers = (app.router as unknown as { stack: Layer[] }).stack;
  const methods = layers.flatMap((layer) => {
    const known = Object.keys(layer.route?.methods ?? {});
    // The framework's own middleware is a route of every method.
    return known.length === 1 && layer.match(path) ? known : [];
  });
  if (methods.length === 0) return undefined;
  const known = new Set(methods.includes('get') ? [...methods, 'head'] : methods);
  return new MethodNotAllowed(method, path, [...known].map((name) => name.toUpperCase()).toSorted());
}

export function asAppError(thrown: unknown, method: string, path: string): AppError {
  if (thrown instanceof AppError) return thrown;
  // Nest refuses a path that can't be decoded with a 400; it leads nowhere, like any other that isn't known.
  const undecodable = thrown instanceof BadRequestException && !isDecodable(path);
  if (thrown instanceof NotFoundException || undecodable) return new RouteNotFound(method, path);
  if (thrown instanceof HttpException && thrown.getStatus() < 500) return new InvalidRequest(thrown.message);
  return new InternalError(thrown);
}

function isDecodable(path: string): boolean {
  try {
    decodeURIComponent(path);
    return true;
  } catch {
    return false;
  }
}
