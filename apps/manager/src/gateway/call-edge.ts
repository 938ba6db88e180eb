import type { AppError } from '#libs/errors/app-error.js';
import { asAppError } from '#libs/errors/problem.filter.js';
import type { ProblemLog } from '#libs/errors/problem-log.js';
import { sendProblem } from '#libs/errors/problem.js';
import { freshIdOf, requestIdOf } from '#libs/errors/request-id.js';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type MemoryBudget, MemoryReservation } from '../memory/memory-budget.js';
import { keyOf } from '../auth/audit.js';
import { CallTiming } from './call-timing.js';
import { Cancellation } from './cancellation.js';
import { CallCancelled } from './errors.js';

/** Under which its caller finds the call in the history. */
const INVOCATION = 'X-Faas-Invocation';

/** What every call that comes in by a request has. */
export interface Incoming {
  readonly requestId: string;
  readonly freshId: string | undefined;
  readonly createdBy: string | null;
  readonly timing: CallTiming;
  readonly cancellation: Cancellation;
  readonly reservation: MemoryReservation;
}

/** The HTTP side of calls, on Node's own request and response: the busiest routes do no more than they must. */
export abstract class CallEdge {
  constructor(
    private readonly memory: MemoryBudget,
    protected readonly problems: ProblemLog,
  ) {}

  /** Makes the call, or answers its problem. Never throws. */
  protected async serve(
    request: IncomingMessage,
    response: ServerResponse,
    call: (incoming: Incoming) => Promise<void>,
  ): Promise<void> {
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
      const freshId = freshIdOf(request);
      await call({ requestId, freshId, createdBy: keyOf(request), timing, cancellation, reservation });
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
      if (timing.id !== undefined) response.setHeader(INVOCATION, timing.id);
    }
    sendProblem(response, error, requestId);
  }
}

/** What the answer to a call says of it, by name and value in turn. */
export function headersOfCall(requestId: string, timing: CallTiming): string[] {
  const headers = [
    'X-Request-Id',
    requestId,
    'Server-Timing',
    timing.header(performance.now()),
    'X-Cold-Start',
    timing.isCold ? 'true' : 'false',
    'X-Faas-Revision',
    String(timing.revision),
  ];
  if (timing.id !== undefined) headers.push(INVOCATION, timing.id);
  return headers;
}
