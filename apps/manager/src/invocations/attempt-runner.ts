import type { InvocationsConfig, LimitsConfig } from '#libs/config/config.js';
import { INVOCATIONS_CONFIG, LIMITS_CONFIG } from '#libs/config/config.module.js';
import { isPassing } from '#libs/database/connection-fault.js';
import { AppError } from '#libs/errors/app-error.js';
import { InternalError } from '#libs/errors/errors.js';
import { Inject, Injectable } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { setTimeout as delay } from 'node:timers/promises';
import { CallTiming } from '../gateway/call-timing.js';
import { Cancellation } from '../gateway/cancellation.js';
import { Invoker } from '../gateway/invoker.js';
import { MemoryBudget, MemoryExhausted, MemoryReservation } from '../memory/memory-budget.js';
import { InvocationNotFound } from './errors.js';
import { type AttemptError, nextOf, RESULT_INVALID } from './invocation.js';
import { InvocationMetrics } from './invocation-metrics.js';
import { KeptBytes } from './kept-bytes.js';
import { KeptCall } from './kept-http.js';
import { type Claimed, type Completion, EXPIRED, InvocationRepository } from './invocation.repository.js';

/** Why an attempt under way is ended from here. */
type EndedBy = 'cancel' | 'lost_lease' | 'shutdown';

/** One attempt under way. */
export class Attempt {
  readonly cancellation = new Cancellation();
  private by: EndedBy | undefined;

  constructor(readonly claim: Claimed) {
    if (claim.isCancelled) this.end('cancel');
  }

  get endedBy(): EndedBy | undefined {
    return this.by;
  }

  /** The first reason counts, but for a lost lease: whatever it ends with is somebody else's to say then. */
  end(by: EndedBy): void {
    if (this.by === undefined || by === 'lost_lease') this.by = by;
    this.cancellation.cancel();
  }
}

const RECORD_AGAIN_MS = 500;
/** How often a row that the database refuses for what is in it is tried. */
const MOST_REFUSALS = 3;

const UNRECORDED: AttemptError = {
  code: 'internal_error',
  detail: 'What it ended with could not be written to the database. The log has the details.',
};

/** Makes one attempt of a call for later, and writes what came out. */
@Injectable()
export class AttemptRunner {
  constructor(
    private readonly invoker: Invoker,
    private readonly memory: MemoryBudget,
    private readonly repository: InvocationRepository,
    private readonly metrics: InvocationMetrics,
    @Inject(INVOCATIONS_CONFIG) private readonly config: Pick<InvocationsConfig, 'maxBackoffMs' | 'resultBytes'>,
    @Inject(LIMITS_CONFIG) private readonly limits: Pick<LimitsConfig, 'payloadBytes' | 'streamIdleMs'>,
    @InjectPinoLogger(AttemptRunner.name) private readonly logger: PinoLogger,
  ) {}

  /**
   * Resolves with what was recorded; undefined: nothing, for the lease was lost or is given up. `ran` is called when the
   * handler is done with it and only the writing is left. Never throws.
   */
  async run(attempt: Attempt, ran: () => void): Promise<Completion | undefined> {
    // A result counts until it is written.
    using reservation = new MemoryReservation(this.memory);
    const completion = await this.outcome(attempt, reservation);
    ran();
    return completion === undefined ? undefined : this.record(attempt, completion);
  }

  private async outcome(attempt: Attempt, reservation: MemoryReservation): Promise<Completion | undefined> {
    const { claim } = attempt;
    const { id, token } = claim;
    if (claim.isExpired) return { id, token, status: 'dead', counts: false, error: EXPIRED };
    const timing = new CallTiming();
    const kept = new KeptBytes(this.config.resultBytes, reservation);
    const http = claim.isHttp ? new KeptCall(this.limits, kept, timing) : undefined;
    try {
      const result = await this.invoker.invoke(claim.functionId, {
        kind: claim.isScheduled ? 'schedule' : 'later',
        requestId: id,
        createdBy: claim.createdBy,
        attemptOf: {
          invocation: id,
          attempt: claim.attempt,
          get isGivenBack() {
            return attempt.endedBy === 'shutdown' || attempt.endedBy === 'lost_lease';
          },
        },
        cancellation: attempt.cancellation,
        timing,
        reservation,
        isBackground: true,
        choice: claim.choice ?? undefined,
        readPayload: () => this.payloadOf(claim, reservation, http),
        ...(http === undefined ? { sink: { begin: () => kept } } : { http }),
      });
      const came = http?.sink.outcome() ?? this.resultOf(result, kept);
      return { id, token, status: 'succeeded', revision: timing.revision, ...came };
    } catch (error) {
      return this.failure(attempt, error, timing);
    }
  }

  /** A large one has arrived in pieces. */
  private resultOf(result: Buffer | 'streamed', kept: KeptBytes): Pick<Completion, 'result' | 'resultBytes'> {
    if (result === 'streamed') return { result: kept.take(), resultBytes: kept.bytes };
    return { result: result.length <= this.config.resultBytes ? result : undefined, resultBytes: result.length };
  }

  private async payloadOf(
    { id, body, bodyBytes }: Claimed,
    reservation: MemoryReservation,
    http?: KeptCall,
  ): Promise<Buffer> {
    reservation.add(bodyBytes);
    const found = body ?? (await this.repository.body(id));
    if (found === null) throw new InvocationNotFound(id);
    http?.load(found);
    return found;
  }

  private failure({ claim, endedBy }: Attempt, thrown: unknown, timing: CallTiming): Completion | undefined {
    const { id, token } = claim;
    const { revision, sentAt } = timing;
    switch (endedBy) {
      case 'lost_lease':
        return undefined;
      case 'cancel':
        return { id, token, status: 'cancelled', counts: revision > 0 };
      case 'shutdown':
        return { id, token, status: 'waiting', inMs: 0, counts: false };
      case undefined:
    }
    const error = thrown instanceof AppError ? thrown : new InternalError(thrown);
    if (error instanceof InternalError) this.logger.error({ err: thrown, invocation: id }, 'an attempt failed');
    // The handler may have run before there was no memory for its result: that is an attempt like any other.
    const hasRun = sentAt > 0 && (error instanceof MemoryExhausted || error instanceof InternalError);
    const next = nextOf(hasRun ? RESULT_INVALID : error.code, claim, this.config.maxBackoffMs, Math.random());
    const ran = revision > 0 ? { revision } : {};
    return { id, token, ...next, ...ran, error: shown(error) };
  }

  /**
   * A database that is away, or too slow, is waited for: the row keeps its token until somebody else claims it, and
   * whoever gave it up would have the handler run again. What the database takes in no form is left to that.
   */
  private async record(attempt: Attempt, completion: Completion): Promise<Completion | undefined> {
    let outcome = completion;
    for (let refusals = 0; ;) {
      try {
        if (!(await this.repository.complete(outcome))) return undefined;
        this.metrics.ended(attempt.claim, outcome);
        return outcome;
      } catch (error) {
        if (attempt.endedBy === 'lost_lease' || attempt.endedBy === 'shutdown') return undefined;
        if (!isPassing(error)) {
          refusals += 1;
          this.logger.error({ err: error, invocation: outcome.id }, 'what a call ended with could not be written');
          if (refusals > MOST_REFUSALS) return undefined;
          const { id, token } = completion;
          if (refusals === MOST_REFUSALS) outcome = { id, token, status: 'dead', error: UNRECORDED };
        }
        await delay(RECORD_AGAIN_MS);
      }
    }
  }
}

const LONGEST_TEXT = 16 * 1024;

function shown({ code, message, extras }: AppError): AttemptError {
  const others = Object.entries(extras).map(([name, value]) => [name, typeof value === 'string' ? cut(value) : value]);
  return { ...Object.fromEntries(others), code, detail: cut(message) };
}

/** NUL is no text of PostgreSQL's JSON, and of a lone surrogate it makes nothing either. */
function cut(text: string): string {
  return text.slice(0, LONGEST_TEXT).toWellFormed().replaceAll('\0', '\u{FFFD}');
}
