import type { InvocationsConfig, LimitsConfig } from '#libs/config/config.js';
import { INVOCATIONS_CONFIG, LIMITS_CONFIG } from '#libs/config/config.module.js';
import { requestIdOf } from '#libs/errors/request-id.js';
import { Inject, Injectable } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { randomUUIDv7 } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { FunctionNotFound } from '../functions/errors.js';
import type { FunctionEntity } from '../functions/function.entity.js';
import { FunctionRepository } from '../functions/function.repository.js';
import { Access } from '../auth/access.js';
import { choiceOf, headerChoiceOf } from '../gateway/choice.js';
import { eventModeOf, STRUCTURED } from '../gateway/cloud-event.js';
import { headersForWorker } from '../gateway/http-headers.js';
import type { HttpTarget } from '../gateway/http-calls.js';
import { FunctionDisabled, InvalidEvent } from '../gateway/errors.js';
import { isCallable, type Route, Router } from '../gateway/router.js';
import { type KeptCallWithPayload, statusOf } from '../history/call.js';
import { HistoryService } from '../history/history.service.js';
import { MemoryBudget } from '../memory/memory-budget.js';
import { RevisionWithoutTraffic } from '../traffic/errors.js';
import type { Choice } from '../traffic/traffic.js';
import { callJson, InvocationDto, invocationJson } from './dto.js';
import { IdempotencyKeyReused, InvocationEnded, InvocationNotFound, LogNotKept, QueueFull } from './errors.js';
import { type Invocation, isOver, type Replayed } from './invocation.js';
import { InvocationMetrics } from './invocation-metrics.js';
import { Dispatcher } from './dispatcher.js';
import {
  type Claimed,
  type Enqueued,
  INLINE_BYTES,
  InvocationRepository,
  type ListFilter,
  type NewInvocation,
} from './invocation.repository.js';
import { resolvePolicy } from './invocation-policy.js';
import {
  choiceOfReplay,
  digestOfReplay,
  payloadOf,
  type Replay,
  replayOfCall,
  replayOfInvocation,
  underId,
} from './replay.js';
import { readHttpInvocation, readInvocation } from './invocation-request.js';
import type { RequestHead } from './kept-http.js';
import { InvocationSignals } from './invocation-signals.js';
import { callFilterOf, isInvocationId } from './invocation-query.js';

/** What one redrive may let wait again; what is left takes another. */
const MOST_REDRIVEN = 100_000;
const REDRIVEN_AT_ONCE = 1_000;
/** The header of a call that asks for it to be kept. */
const ANSWERED_HERE = 'prefer';

/** What a request to keep a call leads to; known: it came before, with the same key. */
export interface Kept {
  readonly invocation: Invocation;
  readonly isKnown: boolean;
}

/** Takes calls for later, and tells what became of them. */
@Injectable()
export class InvocationsService {
  constructor(
    private readonly router: Router,
    private readonly functions: FunctionRepository,
    private readonly repository: InvocationRepository,
    private readonly signals: InvocationSignals,
    private readonly dispatcher: Dispatcher,
    private readonly metrics: InvocationMetrics,
    private readonly history: HistoryService,
    private readonly memory: MemoryBudget,
    private readonly access: Access,
    @Inject(LIMITS_CONFIG) private readonly limits: LimitsConfig,
    @Inject(INVOCATIONS_CONFIG) private readonly config: InvocationsConfig,
    @InjectPinoLogger(InvocationsService.name) private readonly logger: PinoLogger,
  ) {}

  /**
   * Resolves with the call once it is committed; of a request that came before, with the first one's. `to`: the request
   * itself is the call.
   */
  async enqueue(
    reference: string,
    request: IncomingMessage,
    response: ServerResponse,
    { by, to }: { readonly by: string | null; readonly to?: HttpTarget | undefined },
  ): Promise<Kept> {
    const choice = (to === undefined ? choiceOf(request) : headerChoiceOf(request)) ?? null;
    const route = this.router.knownRoute(reference) ?? (await this.router.route(reference));
    const revision = callableRevision(route, reference, choice);
    const reservation = this.memory.reserveUntilClosed(response);
    reservation.countFor(route.share);
    const id = randomUUIDv7();
    const limits = { ...this.limits, ...this.config, defaults: route.invocationDefaults };
    const http = to ?? eventTargetOf(reference, request);
    const asked =
      http === undefined
        ? await readInvocation(request, limits, reservation)
        : await readHttpInvocation(request, this.headOf(http, request, id), limits, reservation);
    const requestId = requestIdOf(request);
    const call = { ...asked, id, functionId: route.id, choice, revision, requestId, createdBy: by };
    return this.enqueued(route, call);
  }

  private async enqueued(route: Route, call: Omit<NewInvocation, 'token'>): Promise<Kept> {
    const { functionId } = call;
    const enqueued = await this.keep(route, call);
    switch (enqueued.outcome) {
      case 'added':
        return { invocation: asEnqueued(call, enqueued), isKnown: false };
      case 'known':
        if (!enqueued.isSame) throw new IdempotencyKeyReused(call.key ?? '');
        return { invocation: await this.find(enqueued.id), isKnown: true };
      case 'no_function':
        throw new FunctionNotFound(functionId);
      case 'function_full':
        throw new QueueFull(functionId, { calls: this.config.perFunction, bytes: this.config.bytesPerFunction });
      case 'all_full':
        throw new QueueFull(undefined, { calls: this.config.most, bytes: this.config.mostBytes });
    }
  }

  /** Writes the call. It begins at once where its function has a slot for it here. */
  private async keep(route: Route, call: Omit<NewInvocation, 'token'>): Promise<Enqueued> {
    const place = call.delayMs === 0 && call.notBefore === null ? this.dispatcher.place(route) : undefined;
    try {
      const enqueued = await this.repository.enqueue({ ...call, token: place?.token ?? null });
      if (enqueued.outcome !== 'added') return enqueued;
      this.metrics.accepted(route.id);
      if (place === undefined) this.signals.due(route.id, enqueued.dueInMs);
      else place.begin(asClaimed(call));
      return enqueued;
    } finally {
      place?.release();
    }
  }

  /** What the handler gets beside the body. Lines of its log have the invocation's id. */
  private headOf({ root, target }: HttpTarget, request: IncomingMessage, id: string): RequestHead {
    const withheld = [...this.access.keyHeaders(request), ANSWERED_HERE];
    return {
      method: request.method ?? 'GET',
      target,
      root,
      headers: headersForWorker(request, { root }, withheld, id),
    };
  }

  /**
   * Whose lines in the log are a call's: attempts of calls for later print under their invocation's id. Throws
   * {@link LogNotKept} of a run.
   */
  async printedBy(id: string): Promise<{ readonly functionId: string; readonly requestId: string }> {
    const found = await this.findAny(id);
    if ('call' in found && found.call.kind === 'run') throw new LogNotKept(id);
    if ('call' in found) return found.call;
    return { functionId: found.invocation.functionId, requestId: id };
  }

  /**
   * Has a call made once more, for later, or once for each key. Throws {@link ReplayImpossible} where what it was given
   * isn't kept.
   */
  async replay(
    id: string,
    wanted: Replayed,
    response: ServerResponse,
    {
      requestId,
      createdBy,
      key,
      named,
    }: Pick<NewInvocation, 'requestId' | 'createdBy' | 'key'> & { readonly named: (id: string) => void },
  ): Promise<Kept> {
    const found = await this.findAny(id);
    const functionId = 'call' in found ? found.call.functionId : found.invocation.functionId;
    named(functionId);
    const reservation = this.memory.reserveUntilClosed(response);
    const payload = 'call' in found ? payloadOf(found.call) : undefined;
    const route = await this.router.route(functionId);
    reservation.countFor(route.share);
    let replay: Replay;
    if ('call' in found) {
      const policy = resolvePolicy(this.config, {}, route.invocationDefaults);
      replay = replayOfCall(found.call, payload as Buffer, policy);
    } else {
      reservation.add(found.invocation.payloadBytes * 2);
      const origin = await this.repository.origin(id);
      if (origin === null) throw new InvocationNotFound(id);
      replay = replayOfInvocation(found.invocation, origin);
    }
    const choice = choiceOfReplay(wanted, replay, route);
    const anew = randomUUIDv7();
    const kept = await this.enqueued(route, {
      ...replay,
      id: anew,
      body: replay.http === null ? replay.body : underId(replay.body, anew),
      choice,
      revision: callableRevision(route, functionId, choice),
      delayMs: 0,
      notBefore: null,
      requestId,
      createdBy,
      callbackUrl: null,
      callbackFormat: 'plain',
      key,
      digest: digestOfReplay(id, wanted),
    });
    if (!kept.isKnown) this.logger.info({ functionId, invocation: kept.invocation.id, of: id }, 'call replayed');
    return kept;
  }

  async find(id: string): Promise<Invocation> {
    const found = isInvocationId(id) ? await this.repository.find(id) : null;
    if (found === null) throw new InvocationNotFound(id);
    return found;
  }

  /** A call for later, or one at once that has ended. */
  async findAny(id: string): Promise<{ readonly invocation: Invocation } | { readonly call: KeptCallWithPayload }> {
    const invocation = isInvocationId(id) ? await this.repository.find(id) : null;
    if (invocation !== null) return { invocation };
    const call = isInvocationId(id) ? await this.history.find(id) : null;
    if (call === null || call.attempt !== null) throw new InvocationNotFound(id);
    return { call };
  }

  /** The call as JSON, with its result as the worker gave it where it is kept. */
  async detail(id: string, response: ServerResponse): Promise<Buffer> {
    const found = await this.findAny(id);
    if ('call' in found) return callJson(found.call);
    const { invocation } = found;
    const attempts = await this.history.attempts(id);
    if (invocation.status !== 'succeeded') return invocationJson(invocation, null, attempts);
    // Of a larger one no more than the head is kept.
    const keptBytes = Math.min(invocation.resultBytes ?? 0, this.config.resultBytes);
    this.memory.reserveUntilClosed(response).add(keptBytes * 2);
    return invocationJson(invocation, await this.repository.result(id), attempts);
  }

  /** Calls of all kinds, the newest first; `next`: where the page after these begins. */
  async list(
    reference: string,
    filter: ListFilter,
  ): Promise<{ readonly shown: InvocationDto[]; readonly next: string | undefined }> {
    const { id } = await this.functionBy(reference);
    const [later, calls] = await Promise.all([
      this.repository.list(id, filter),
      this.history.list(id, callFilterOf(filter)),
    ]);
    const all = [
      ...later.rows.map((row) => InvocationDto.of(row)),
      ...calls.rows.map((call) => InvocationDto.ofCall(call)),
    ];
    const downTo = [later.downTo, calls.downTo]
      .filter((one) => one !== undefined)
      .toSorted()
      .at(-1);
    const shown = all
      .filter((one) => downTo === undefined || one.id >= downTo)
      .toSorted((a, b) => (a.id < b.id ? 1 : -1))
      .slice(0, filter.limit);
    return { shown, next: shown.length === filter.limit ? shown.at(-1)?.id : downTo };
  }

  /** A call that runs ends a moment later. */
  async cancel(id: string): Promise<Invocation> {
    const cancelled = isInvocationId(id) ? await this.repository.cancel(id) : null;
    if (cancelled === null) {
      const found = await this.findAny(id);
      if ('call' in found) throw new InvocationEnded(id, statusOf(found.call));
      const { invocation } = found;
      // It ended while nobody looked; one that does so twice has been cancelled before.
      if (isOver(invocation.status)) throw new InvocationEnded(id, invocation.status);
      return invocation;
    }
    if (cancelled.status === 'running') this.signals.cancelled(id);
    else if (cancelled.callbackUrl !== null) this.signals.callback();
    if (cancelled.status !== 'running' && cancelled.schedule !== null) this.signals.scheduledEnded();
    this.logger.info({ functionId: cancelled.functionId, invocation: id }, 'call for later cancelled');
    return cancelled;
  }

  /** Lets dead calls wait again. Throws {@link QueueFull} where there is room for none of them. */
  async redrive(
    reference: string,
    ids: readonly string[] | null,
    named: (functionId: string) => void,
  ): Promise<number> {
    const { id } = await this.functionBy(reference);
    named(id);
    let redriven = 0;
    for (;;) {
      const some = await this.repository.redrive(id, ids, REDRIVEN_AT_ONCE);
      redriven += some;
      if (some > 0) this.signals.due(id, 0);
      if (some < REDRIVEN_AT_ONCE || redriven >= MOST_REDRIVEN) break;
    }
    if (redriven === 0 && (await this.repository.hasDead(id, ids))) {
      throw new QueueFull(id, { calls: this.config.perFunction, bytes: this.config.bytesPerFunction });
    }
    this.logger.info({ functionId: id, calls: redriven }, 'dead calls wait again');
    return redriven;
  }

  private async functionBy(reference: string): Promise<FunctionEntity> {
    const row = await this.functions.findBy(reference);
    if (row === null || row.deletedAt !== null) throw new FunctionNotFound(reference);
    return row;
  }
}

/** An event that is sent as a call for later is one of HTTP, to the function's own root. Throws {@link InvalidEvent}. */
function eventTargetOf(reference: string, { headers }: IncomingMessage): HttpTarget | undefined {
  const mode = eventModeOf(headers);
  if (mode === undefined) return undefined;
  if (mode !== 'other') return { reference, root: `/f/${reference}`, target: '/' };
  throw new InvalidEvent('body', `Content-Type must be ${STRUCTURED}, for one event as JSON.`);
}

function asClaimed(call: Omit<NewInvocation, 'token'>): Omit<Claimed, 'token'> {
  const { id, functionId, retry, choice, createdBy, body } = call;
  return {
    ...{ id, functionId, retry, choice, createdBy, attempt: 1, postponed: 0 },
    ...{ body: body.length <= INLINE_BYTES ? body : undefined, bodyBytes: body.length },
    ...{ isExpired: false, isCancelled: false, hasCallback: call.callbackUrl !== null, isHttp: call.http !== null },
    isScheduled: false,
  };
}

function asEnqueued(
  call: Omit<NewInvocation, 'token'>,
  times: Pick<Invocation, 'createdAt' | 'dueAt' | 'expiresAt'>,
): Invocation {
  const { id, functionId, priority, createdBy, requestId, key, retry, choice, revision, payloadBytes } = call;
  return {
    ...{ id, functionId, status: 'waiting', priority, createdBy, requestId, idempotencyKey: key, retry, choice },
    ...{ createdAt: times.createdAt, dueAt: times.dueAt, expiresAt: times.expiresAt },
    ...{ enqueuedRevision: revision, payloadBytes, attempt: 0, startedAt: null, endedAt: null, revision: null },
    ...{ resultBytes: null, error: null, cancelRequested: false },
    ...{ http: call.http, callbackUrl: call.callbackUrl, callbackFormat: call.callbackFormat },
    ...{ callbackStatus: null, callbackAttempt: 0, callbackError: null },
    ...{ schedule: null, scheduledFor: null },
  };
}

/** The revision that would run the call now. Throws what a call at once is refused with. */
function callableRevision(route: Route, reference: string, choice: Choice | null): number {
  if (!isCallable(route)) throw new FunctionNotFound(reference);
  if (route.refusal) throw route.refusal;
  if (route.isDisabled) throw new FunctionDisabled(route.id);
  const { split, revision } = route;
  if (split !== undefined) {
    const target = split.choose(choice ?? {});
    if (target === undefined) throw new RevisionWithoutTraffic(route.id, nameOf(choice));
    return target.revision;
  }
  if (choice?.tag !== undefined || (choice?.revision ?? revision) !== revision) {
    throw new RevisionWithoutTraffic(route.id, nameOf(choice));
  }
  return revision;
}

function nameOf(choice: Choice | null): string {
  if (choice?.revision !== undefined) return `revision ${choice.revision}`;
  return choice?.tag === undefined ? 'any revision' : `the tag ${JSON.stringify(choice.tag)}`;
}
