import type { Scope } from '#libs/config/api-keys.js';
import { ForeignOrigin, Forbidden, TooManyAttempts, Unauthorized } from '#libs/errors/errors.js';
import { requestIdOf } from '#libs/errors/request-id.js';
import { addressOf, clientOf } from '#libs/observability/client-address.js';
import { LogRateLimit } from '#libs/observability/log-rate-limit.js';
import { LOGGER, noteElsewhere } from '#libs/observability/logging.module.js';
import { Metrics } from '#libs/observability/metrics.js';
import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import { Counter } from 'prom-client';
import { Attempts } from './attempts.js';
import { Authenticator, type Principal } from './authenticator.js';

/** Lines a minute. Further refusals are only counted, and one line says how many. */
const LINES = { perClient: 5, inAll: 100 };

/** A route that needs a key: the scope it needs, and its path as the document writes it. */
export interface ProtectedRoute {
  readonly scope: Scope;
  readonly route: string;
}

type Reason = 'missing_key' | 'wrong_key' | 'too_many_attempts' | 'wrong_scope' | 'foreign_origin';

/** Lets requests in. Refusals are logged and counted, and guessing keys is slowed down. */
@Injectable()
export class Access implements OnApplicationShutdown {
  private readonly counter: Counter<'reason' | 'scope'>;
  private readonly lines: LogRateLimit;

  constructor(
    private readonly authenticator: Authenticator,
    private readonly attempts: Attempts,
    metrics: Metrics,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {
    this.counter = new Counter({
      name: 'faas_auth_refusals_total',
      help: 'Requests that were not let in, by why and by the scope that they needed.',
      labelNames: ['reason', 'scope'],
      registers: [metrics.registry],
    });
    this.lines = new LogRateLimit(LINES, (leftOut) => logger.warn(leftOut, 'further refusals were left out'));
  }

  /**
   * Who sent the request; a promise only if it is refused. That rejects with the reason when it may be answered: after
   * a wrong key there is a delay.
   */
  authenticate(request: IncomingMessage, response: ServerResponse, to: ProtectedRoute): Principal | Promise<never> {
    try {
      return this.authenticator.authenticate(request, to.scope);
    } catch (thrown) {
      return this.refuse(thrown, to, request, response);
    }
  }

  /** Whether a request shows nothing by which it could be let in. */
  isStranger(request: IncomingMessage, { scope }: ProtectedRoute): boolean {
    try {
      this.authenticator.authenticate(request, scope);
      return false;
    } catch (thrown) {
      const reason = reasonOf(thrown);
      return reason === 'missing_key' || reason === 'foreign_origin';
    }
  }

  /** The names of headers of the request that hold an API key, which is nobody else's to see. */
  keyHeaders(request: IncomingMessage): readonly string[] {
    return this.authenticator.keyHeaders(request);
  }

  onApplicationShutdown(): void {
    this.lines.end();
  }

  private async refuse(
    thrown: unknown,
    to: ProtectedRoute,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<never> {
    const reason = reasonOf(thrown);
    if (reason === 'wrong_key') {
      const attempt = this.attempts.delay(clientOf(addressOf(request)), response);
      this.note(attempt.isHeld ? reason : 'too_many_attempts', thrown, to, request);
      if (!attempt.isHeld) {
        response.setHeader('Connection', 'close');
        throw new TooManyAttempts(attempt.retryAfterSeconds);
      }
      await attempt.over;
    } else if (reason !== undefined) this.note(reason, thrown, to, request);
    throw thrown;
  }

  private note(reason: Reason, thrown: unknown, { scope, route }: ProtectedRoute, request: IncomingMessage): void {
    this.counter.inc({ reason, scope });
    noteElsewhere(request);
    const address = addressOf(request);
    if (!this.lines.admits(clientOf(address))) return;
    const key = thrown instanceof Forbidden ? thrown.keyName : null;
    const { method } = request;
    this.logger.warn({ reason, key, address, method, route, requestId: requestIdOf(request) }, 'access refused');
  }
}

function reasonOf(thrown: unknown): Reason | undefined {
  if (thrown instanceof Unauthorized) return thrown.reason;
  if (thrown instanceof Forbidden) return 'wrong_scope';
  return thrown instanceof ForeignOrigin ? 'foreign_origin' : undefined;
}
