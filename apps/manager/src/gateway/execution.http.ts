import type { IncomingMessage, ServerResponse } from 'node:http';
import type { LimitsConfig } from '#libs/config/config.js';
import { LIMITS_CONFIG } from '#libs/config/config.module.js';
import type { AppError } from '#libs/errors/app-error.js';
import { asAppError } from '#libs/errors/problem.filter.js';
import { ProblemLog } from '#libs/errors/problem-log.js';
import { sendProblem } from '#libs/errors/problem.js';
import { requestIdOf } from '#libs/errors/request-id.js';
import { Inject, Injectable } from '@nestjs/common';
import { MemoryBudget, MemoryReservation } from '../memory/memory-budget.js';
import { checkBody, readBody } from './call-body.js';
import { choiceOf } from './choice.js';
import { CallTiming } from './call-timing.js';
import { Cancellation } from './cancellation.js';
import { CallCancelled } from './errors.js';
import { Invoker } from './invoker.js';
import type { AnswerSink } from './worker-client.js';

/** The HTTP side of a call, on Node's own request and response: the busiest route does no more than it must. */
@Injectable()
export class ExecutionHttp {
  constructor(
    private readonly invoker: Invoker,
    private readonly memory: MemoryBudget,
    @Inject(LIMITS_CONFIG) private readonly limits: LimitsConfig,
    private readonly problems: ProblemLog,
  ) {}

  /** Answers the call or its problem. Never throws. */
  async handle(id: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const requestId = requestIdOf(request);
    const timing = new CallTiming();
    const cancellation = new Cancellation();
    const reservation = new MemoryReservation(this.memory);
    let isOver = false;
    response.on('close', () => {
      if (!response.writableFinished) cancellation.cancel();
      // Memory is reserved until the answer has gone out, and until nobody works on the call.
      if (isOver) reservation[Symbol.dispose]();
      isOver = true;
    });
    try {
      const readPayload = async () => {
        const body = await readBody(request, this.limits.payloadBytes, reservation);
        timing.received(performance.now());
        checkBody(body, this.limits.payloadBytes);
        return body;
      };
      const sink = new Answer(response, requestId, timing);
      const choice = choiceOf(request);
      const call = { requestId, cancellation, timing, reservation, readPayload, choice, sink };
      const result = await this.invoker.invoke(id, call);
      if (result !== 'streamed') sink.begin(result.length).end(result);
    } catch (thrown) {
      this.fail(response, asAppError(thrown, request.method ?? '', request.url ?? ''), requestId, timing);
    } finally {
      if (isOver) reservation[Symbol.dispose]();
      isOver = true;
    }
  }

  private fail(response: ServerResponse, error: AppError, requestId: string, timing: CallTiming): void {
    if (error instanceof CallCancelled) {
      response.destroy();
      return;
    }
    this.problems.note(error, response.req);
    if (!response.headersSent) {
      response.setHeader('Server-Timing', timing.header(performance.now()));
      response.setHeader('X-Cold-Start', timing.isCold ? 'true' : 'false');
      if (timing.revision > 0) response.setHeader('X-Faas-Revision', timing.revision);
    }
    sendProblem(response, error, requestId);
  }
}

/** The head of a successful call, written when its answer is there or has begun. */
class Answer implements AnswerSink {
  constructor(
    private readonly response: ServerResponse,
    private readonly requestId: string,
    private readonly timing: CallTiming,
  ) {}

  begin(bytes: number | undefined): ServerResponse {
    const { response, requestId, timing } = this;
    const head = [
      'Content-Type',
      'application/json',
      'X-Request-Id',
      requestId,
      'Server-Timing',
      timing.header(performance.now()),
      'X-Cold-Start',
      timing.isCold ? 'true' : 'false',
      'X-Faas-Revision',
      String(timing.revision),
    ];
    // Of one that is cut off its reader can tell by the length, or in its absence by the missing last chunk.
    if (bytes !== undefined) head.push('Content-Length', String(bytes));
    return response.writeHead(200, head);
  }
}
