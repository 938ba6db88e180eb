import type { IncomingMessage, ServerResponse } from 'node:http';
import type { LimitsConfig } from '#libs/config/config.js';
import { LIMITS_CONFIG } from '#libs/config/config.module.js';
import { ProblemLog } from '#libs/errors/problem-log.js';
import { Inject, Injectable } from '@nestjs/common';
import { MemoryBudget } from '../memory/memory-budget.js';
import { checkBody, readBody } from './call-body.js';
import { CallEdge, headersOfCall } from './call-edge.js';
import { choiceOf } from './choice.js';
import type { CallTiming } from './call-timing.js';
import { Invoker } from './invoker.js';
import type { AnswerSink } from './worker-client.js';

/** Calls with a payload, which are answered with a result. */
@Injectable()
export class ExecutionHttp extends CallEdge {
  constructor(
    private readonly invoker: Invoker,
    memory: MemoryBudget,
    @Inject(LIMITS_CONFIG) private readonly limits: LimitsConfig,
    problems: ProblemLog,
  ) {
    super(memory, problems);
  }

  /** Answers the call or its problem. Never throws. */
  handle(id: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    return this.serve(request, response, async (incoming) => {
      const { requestId, timing, reservation } = incoming;
      const readPayload = async () => {
        const body = await readBody(request, this.limits.payloadBytes, reservation);
        timing.received(performance.now());
        checkBody(body, this.limits.payloadBytes);
        return body;
      };
      const sink = new Answer(response, requestId, timing);
      const choice = choiceOf(request);
      const result = await this.invoker.invoke(id, { ...incoming, kind: 'execute', readPayload, choice, sink });
      if (result !== 'streamed') sink.begin(result.length).end(result);
    });
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
    const head = ['Content-Type', 'application/json', ...headersOfCall(this.requestId, this.timing)];
    // Of one that is cut off its reader can tell by the length, or in its absence by the missing last chunk.
    if (bytes !== undefined) head.push('Content-Length', String(bytes));
    return this.response.writeHead(200, head);
  }
}
