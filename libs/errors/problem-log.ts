import { addressOf, clientOf } from '#libs/observability/client-address.js';
import { LogRateLimit } from '#libs/observability/log-rate-limit.js';
import type { OnApplicationShutdown } from '@nestjs/common';
import type { IncomingMessage } from 'node:http';
import type { AppError } from './app-error.js';
import { InternalError } from './errors.js';
import { requestIdOf } from './request-id.js';

/** Lines a minute about what can't be served just now, which clients may ask for as often as they like. */
const REFUSED = { perClient: 30, inAll: 300 };

interface Lines {
  error(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** Logs what an operator should see of answered problems. */
export class ProblemLog implements OnApplicationShutdown {
  private readonly refused: LogRateLimit;

  constructor(private readonly logger: Lines) {
    this.refused = new LogRateLimit(REFUSED, (leftOut) =>
      logger.warn(leftOut, 'further refused requests were left out'),
    );
  }

  /** Faults of ours as errors, an unavailable dependency as a warning. */
  note(error: AppError, request: IncomingMessage): void {
    const requestId = requestIdOf(request);
    if (error instanceof InternalError) {
      this.logger.error({ err: error.cause, requestId }, 'request failed unexpectedly');
    } else if (error.kind === 'unavailable' && this.refused.admits(clientOf(addressOf(request)))) {
      this.logger.warn({ err: error, requestId, code: error.code }, 'request refused');
    }
  }

  onApplicationShutdown(): void {
    this.refused.end();
  }
}
