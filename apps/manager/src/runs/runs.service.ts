import { AppError } from '#libs/errors/app-error.js';
import { freshIdOf, requestIdOf } from '#libs/errors/request-id.js';
import { Injectable } from '@nestjs/common';
import type { Request, Response } from 'express';
import { FunctionsService, type Started } from '../functions/functions.service.js';
import { CallTiming } from '../gateway/call-timing.js';
import { Cancellation } from '../gateway/cancellation.js';
import { Invoker } from '../gateway/invoker.js';
import { HistoryService } from '../history/history.service.js';
import { noteUncounted } from '../http/client-connection.js';
import { InvocationDto } from '../invocations/dto.js';
import { callFilterOf } from '../invocations/invocation-query.js';
import type { ListFilter } from '../invocations/invocation.repository.js';
import { MemoryBudget } from '../memory/memory-budget.js';
import { RunLog } from './run-log.js';

/** How long is waited for the end of the log: of a call that was answered, and of one whose worker may be gone. */
const LOG_MS = { answered: 1_000, failed: 200 };

/** Code that is called once, by a worker of its own, which nothing is left of. */
@Injectable()
export class RunsService {
  constructor(
    private readonly functions: FunctionsService,
    private readonly invoker: Invoker,
    private readonly log: RunLog,
    private readonly memory: MemoryBudget,
    private readonly history: HistoryService,
  ) {}

  /**
   * The body of the answer, `RunResult` of the document, in pieces, as a result may be large. Throws what an upload or a
   * call of a function would; of a call with what it has printed.
   */
  run(request: Request, response: Response, createdBy: string | null): Promise<readonly Buffer[]> {
    const leaving = new AbortController();
    response.once('close', () => leaving.abort());
    if (response.destroyed) leaving.abort();
    return this.functions.once(request, createdBy, leaving.signal, (started, payload) =>
      this.call(started, payload, createdBy, request, response),
    );
  }

  /** What the history has of runs; `next`: where the page after these begins. */
  async list(filter: ListFilter): Promise<{ readonly shown: InvocationDto[]; readonly next: string | undefined }> {
    const { rows, downTo } = await this.history.runs(callFilterOf(filter));
    const next = rows.length === filter.limit ? rows.at(-1)?.id : downTo;
    return { shown: rows.map((call) => InvocationDto.ofCall(call)), next };
  }

  private async call(
    { id, withinMs, failure }: Started,
    payload: string,
    createdBy: string | null,
    request: Request,
    response: Response,
  ): Promise<readonly Buffer[]> {
    const [requestId, freshId] = [requestIdOf(request), freshIdOf(request)];
    const reservation = this.memory.reserveUntilClosed(response);
    const cancellation = new Cancellation();
    response.once('close', () => cancellation.cancel());
    if (response.destroyed) cancellation.cancel();
    const timing = new CallTiming();
    using log = this.log.of(id, requestId);
    const start = { withinMs, failure, onWorker: () => log.follow() };
    const readPayload = () => Promise.resolve(Buffer.from(JSON.stringify({ payload })));
    try {
      const call = {
        kind: 'run',
        requestId,
        freshId,
        createdBy,
        cancellation,
        timing,
        reservation,
        start,
        readPayload,
      } as const;
      // Without a sink every result is kept whole.
      const body = (await this.invoker.invoke(id, call)) as Buffer;
      const tookMs = timing.workerMs;
      const rest = restOf(tookMs, await log.lines(LOG_MS.answered, timing.replica));
      // All but what follows the result is reserved.
      noteUncounted(response, false);
      return [body.subarray(0, body.lastIndexOf('}')), rest];
    } catch (error) {
      if (!(error instanceof AppError) || cancellation.isCancelled || timing.sentAt === 0) throw error;
      const lines = await log.lines(LOG_MS.failed, timing.replica);
      throw error.with({ logs: lines.map(({ line }) => line) });
    }
  }
}

/** What follows the result in the answer. */
function restOf(tookMs: number, logs: readonly object[]): Buffer {
  const rest = JSON.stringify({ duration_ms: Math.round(tookMs * 1_000) / 1_000, logs });
  return Buffer.from(`,${rest.slice(1)}`);
}
