import type { AppError } from '#libs/errors/app-error.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Injectable } from '@nestjs/common';
import { FunctionNotReady } from '../functions/errors.js';
import { FunctionRepository } from '../functions/function.repository.js';
import { CallCancelled, FunctionOverloaded, HandlerTimeout } from './errors.js';
import { PostMortem } from './post-mortem.js';
import { type Route, Router } from './router.js';
import type { Replica } from './slot-pool.js';
import { meaningOf } from './worker-answer.js';
import { callWorker } from './worker-client.js';

export interface Call {
  /** The checked body, sent to the worker as it is. */
  readonly body: Buffer;
  readonly requestId: string;
  /** Aborts when the caller disconnects. */
  readonly signal: AbortSignal;
}

/** A replaced worker takes a moment to come back, so calls wait at least this long for one. */
const SHORTEST_WAIT_MS = 10_000;

/** Runs one call: route, slot, worker, meaning of the answer. */
@Injectable()
export class ExecutionService {
  constructor(
    private readonly router: Router,
    private readonly repository: FunctionRepository,
    private readonly postMortem: PostMortem,
  ) {}

  /** The worker's body of a successful call, byte for byte. Throws the domain error of everything else. */
  async execute(id: FunctionId, call: Call): Promise<Buffer> {
    const found = this.router.route(id);
    const route = found instanceof Promise ? await found : found;
    const giveUpAt = performance.now() + Math.max(route.timeoutMs, SHORTEST_WAIT_MS);
    for (;;) {
      if (route.refusal) throw route.refusal;
      const result = await this.attempt(route, call, giveUpAt - performance.now());
      if (result !== 'not_sent') return result;
    }
  }

  /** One try on one replica; `not_sent` when the handler certainly wasn't called, so that it may be tried again. */
  private async attempt(route: Route, call: Call, waitMs: number): Promise<Buffer | 'not_sent'> {
    using slot = await route.pool.acquire({
      waitMs: Math.max(waitMs, 1),
      signal: call.signal,
      refused: (why, waiting) => refusal(route, why, waiting),
    });
    const { timeoutMs } = route;
    const startedAt = new Date();
    const answer = await callWorker(slot.replica.connections, { ...call, functionId: route.id, timeoutMs });
    switch (answer.kind) {
      case 'answered': {
        if (answer.status === 200) return answer.body;
        const meaning = meaningOf(answer.status, answer.body, timeoutMs);
        if (meaning !== 'refused') throw meaning;
        return this.setAside(route, slot.replica);
      }
      case 'not_sent':
        return this.setAside(route, slot.replica);
      case 'cut_off':
        throw await this.postMortem.of(route.id, slot.replica.endpoint, startedAt, answer.reason);
      case 'timed_out':
        throw new HandlerTimeout(timeoutMs);
      case 'cancelled':
        throw new CallCancelled();
    }
  }

  /** A replica that refuses is left alone for a moment, and the engine is asked to look at the function. */
  private setAside(route: Route, replica: Replica): 'not_sent' {
    route.pool.setAside(replica);
    // A lost request is harmless: the engine's own hints and the resync say the same.
    this.repository.requestReconcile(route.id).catch(() => undefined);
    return 'not_sent';
  }
}

function refusal(route: Route, why: 'queue_full' | 'waited_too_long' | 'cancelled', waiting: number): AppError {
  switch (why) {
    case 'cancelled':
      return new CallCancelled();
    case 'queue_full':
      return new FunctionOverloaded(route.id, waiting);
    case 'waited_too_long':
      return route.pool.size > 0
        ? new FunctionOverloaded(route.id, waiting)
        : new FunctionNotReady(route.id, 'no replica answered in time.');
  }
}
