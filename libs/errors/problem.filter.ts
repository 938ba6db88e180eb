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
import { PinoLogger } from 'nestjs-pino';
import { AppError } from './app-error.js';
import { InternalError, InvalidRequest, RouteNotFound } from './errors.js';
import { sendProblem } from './problem.js';
import { requestIdOf } from './request-id.js';

/** The one place where Nest's errors become answers. */
@Catch()
@Injectable()
export class ProblemFilter implements ExceptionFilter {
  constructor(private readonly logger: PinoLogger) {}

  catch(thrown: unknown, host: ArgumentsHost): void {
    const http = host.switchToHttp();
    const request = http.getRequest<Request>();
    const error = asAppError(thrown, request.method, request.path);
    const requestId = requestIdOf(request);
    logProblem(this.logger.logger, error, requestId);
    sendProblem(http.getResponse<Response>(), error, requestId);
  }
}

/** Logs what an operator should see: faults of ours as errors, an unavailable dependency as a warning. */
export function logProblem(
  logger: { error(fields: object, message: string): void; warn(fields: object, message: string): void },
  error: AppError,
  requestId: string,
): void {
  if (error instanceof InternalError) logger.error({ err: error.cause, requestId }, 'request failed unexpectedly');
  else if (error.kind === 'unavailable') logger.warn({ err: error, requestId, code: error.code }, 'request refused');
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
