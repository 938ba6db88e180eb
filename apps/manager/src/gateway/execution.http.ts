import type { IncomingMessage, ServerResponse } from 'node:http';
import type { LimitsConfig } from '#libs/config/config.js';
import { LIMITS_CONFIG } from '#libs/config/config.module.js';
import type { AppError } from '#libs/errors/app-error.js';
import { asAppError } from '#libs/errors/problem.filter.js';
import { ProblemLog } from '#libs/errors/problem-log.js';
import { sendProblem } from '#libs/errors/problem.js';
import { requestIdOf } from '#libs/errors/request-id.js';
import { Inject, Injectable } from '@nestjs/common';
import { MemoryBudget, type Holding } from '../memory/memory-budget.js';
import { checkedBody, readBody } from './call-body.js';
import { CallMetrics } from './call-metrics.js';
import { CallTiming } from './call-timing.js';
import { Cancellation } from './cancellation.js';
import { CallCancelled } from './errors.js';
import { Invoker } from './invoker.js';
import type { AnswerSink } from './worker-client.js';

/** The HTTP side of a call, on Node's own request and response: the busiest route does no more than it must. */
@Injectable()
export class ExecutionHttp {
  constructor(
    private readonly execution: Invoker,
    private readonly held: MemoryBudget,
    private readonly metrics: CallMetrics,
    @Inject(LIMITS_CONFIG) private readonly limits: LimitsConfig,
    private readonly problems: ProblemLog,
  ) {}

  /** Answers the call or its problem. Never throws. */
  async handle(id: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const requestId = requestIdOf(request);
    const timing = new CallTiming();
    const caller = new Cancellation();
    let holding: Holding | undefined;
    let isOver = false;
    response.on('close', () => {
      if (!response.writableFinished) caller.leave();
      // What is held is held until the answer has gone out, and until nobody works on the call.
      if (isOver) holding?.[Symbol.dispose]();
      isOver = true;
    });
    try {
      const share = this.execution.refuseOverload(id, timing);
      holding = this.held.hold();
      // No body is read of which nobody knows whose share it counts in.
      holding.countFor(share ?? (await this.execution.shareOf(id)));
      const { payloadBytes } = this.limits;
      const received = await readBody(request, payloadBytes, holding);
      timing.received(performance.now());
      const body = checkedBody(received, payloadBytes);
      const answer = new Answer(response, requestId, timing);
      const result = await this.execution.execute(id, { body, requestId, caller, timing, holding, sink: answer });
      if (result !== 'streamed') answer.begin(result.length).end(result);
      this.metrics.ended('ok', timing, performance.now());
    } catch (thrown) {
      const error = asAppError(thrown, request.method ?? '', request.url ?? '');
      this.fail(response, error, requestId, timing);
    } finally {
      if (isOver) holding?.[Symbol.dispose]();
      isOver = true;
    }
  }

  private fail(response: ServerResponse, error: AppError, requestId: string, timing: CallTiming): void {
    const now = performance.now();
    this.metrics.ended(error.code, timing, now);
    if (error instanceof CallCancelled) {
      response.destroy();
      return;
    }
    this.problems.note(error, response.req);
    if (!response.headersSent) {
      response.setHeader('Server-Timing', timing.header(now));
      response.setHeader('X-Cold-Start', timing.isCold ? 'true' : 'false');
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
    ];
    // Of one that is cut off its reader can tell by the length, or in its absence by the missing last chunk.
    if (bytes !== undefined) head.push('Content-Length', String(bytes));
    return response.writeHead(200, head);
  }
}
