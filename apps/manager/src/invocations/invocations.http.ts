import type { IncomingMessage, ServerResponse } from 'node:http';
import { asAppError } from '#libs/errors/problem.filter.js';
import { ProblemLog } from '#libs/errors/problem-log.js';
import { sendProblem } from '#libs/errors/problem.js';
import { requestIdOf } from '#libs/errors/request-id.js';
import { Injectable } from '@nestjs/common';
import { keyOf } from '../auth/audit.js';
import { CallCancelled } from '../gateway/errors.js';
import type { HttpTarget } from '../gateway/http-calls.js';
import { InvocationDto } from './dto.js';
import { InvocationsService } from './invocations.service.js';

/** The HTTP side of enqueuing, on Node's own request and response, as that of calls at once. */
@Injectable()
export class InvocationsHttp {
  constructor(
    private readonly invocations: InvocationsService,
    private readonly problems: ProblemLog,
  ) {}

  /** Answers the call as it is kept, or why it isn't; `to`: the request is an HTTP call. Never throws. */
  async handle(reference: string, request: IncomingMessage, response: ServerResponse, to?: HttpTarget): Promise<void> {
    const requestId = requestIdOf(request);
    try {
      const by = keyOf(request);
      const { invocation, isKnown } = await this.invocations.enqueue(reference, request, response, { by, to });
      const body = Buffer.from(JSON.stringify(InvocationDto.of(invocation)));
      response.setHeader('Content-Type', 'application/json');
      response.setHeader('Content-Length', body.length);
      response.setHeader('Location', `/invocations/${invocation.id}`);
      response.setHeader('X-Request-Id', requestId);
      if (isKnown) response.setHeader('Idempotency-Replayed', 'true');
      response.writeHead(202).end(body);
    } catch (thrown) {
      const error = asAppError(thrown, request.method ?? '', request.url ?? '');
      if (error instanceof CallCancelled) {
        response.destroy();
        return;
      }
      this.problems.note(error, request);
      sendProblem(response, error, requestId);
    }
  }
}
