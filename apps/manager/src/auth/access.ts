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

/** Lines a minute; further refusals are counted alone, and summed up in one line. */
const LINES = { perClient: 5, inAll: 100 };

/** What was asked for: what it needs, and its route as the documentation writes it. */
export interface Door {
  readonly scope: Scope;
  readonly route: string;
}

type Reason = 'missing_key' | 'wrong_key' | 'too_many_attempts' | 'wrong_scope' | 'foreign_origin';

/** The one way in. Makes refusals seen, in the log and in the metrics, and guessing slow. */
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
   * Who asks, without a wait for whom it lets in. Rejects with what refuses the request, once it may be answered: a wrong
   * key waits for it.
   */
  authenticate(request: IncomingMessage, response: ServerResponse, door: Door): Principal | Promise<never> {
    try {
      return this.authenticator.authenticate(request, door.scope);
    } catch (thrown) {
      return this.refuse(thrown, door, request, response);
    }
  }

  onApplicationShutdown(): void {
    this.lines.end();
  }

  private async refuse(
    thrown: unknown,
    door: Door,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<never> {
    const reason = reasonOf(thrown);
    if (reason === 'wrong_key') {
      const attempt = this.attempts.delay(clientOf(addressOf(request)), response);
      this.note(attempt.isHeld ? reason : 'too_many_attempts', thrown, door, request);
      if (!attempt.isHeld) {
        response.setHeader('Connection', 'close');
        throw new TooManyAttempts(attempt.retryAfterSeconds);
      }
      await attempt.over;
    } else if (reason !== undefined) this.note(reason, thrown, door, request);
    throw thrown;
  }

  private note(reason: Reason, thrown: unknown, { scope, route }: Door, request: IncomingMessage): void {
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
