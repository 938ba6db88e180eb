import type { IncomingMessage, ServerResponse } from 'node:http';
import type { LimitsConfig } from '#libs/config/config.js';
import { LIMITS_CONFIG } from '#libs/config/config.module.js';
import { asAppError, logProblem } from '#libs/errors/problem.filter.js';
import { sendProblem } from '#libs/errors/problem.js';
import { requestIdOf } from '#libs/errors/request-id.js';
import { Inject, Injectable } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { checkedBody, readBody } from './call-body.js';
import { CallCancelled } from './errors.js';
import { ExecutionService } from './execution.service.js';

/** The HTTP side of a call, on Node's own request and response: the busiest route does no more than it must. */
@Injectable()
export class ExecutionHttp {
  constructor(
    private readonly execution: ExecutionService,
    @Inject(LIMITS_CONFIG) private readonly limits: LimitsConfig,
    @InjectPinoLogger(ExecutionHttp.name) private readonly logger: PinoLogger,
  ) {}

  /** Answers the call or its problem. Never throws. */
  async handle(id: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const requestId = requestIdOf(request);
    const disconnected = new AbortController();
    response.on('close', () => {
      if (!response.writableFinished) disconnected.abort();
    });
    try {
      const body = checkedBody(await readBody(request, this.limits.payloadBytes), this.limits.payloadBytes);
      const result = await this.execution.execute(id, { body, requestId, signal: disconnected.signal });
      response.writeHead(200, [
        'Content-Type',
        'application/json',
        'Content-Length',
        String(result.length),
        'X-Request-Id',
        requestId,
      ]);
      response.end(result);
    } catch (thrown) {
      if (thrown instanceof CallCancelled) {
        response.destroy();
        return;
      }
      const error = asAppError(thrown, request.method ?? '', request.url ?? '');
      logProblem(this.logger.logger, error, requestId);
      sendProblem(response, error, requestId);
    }
  }
}
