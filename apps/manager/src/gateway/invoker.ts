import { AppError } from '#libs/errors/app-error.js';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Injectable } from '@nestjs/common';
import { REDACTED } from '../functions/dto/history-setting.dto.js';
import { FunctionNotFound, FunctionNotReady } from '../functions/errors.js';
import { FunctionRepository } from '../functions/function.repository.js';
import type { Started } from '../functions/functions.service.js';
import { Activator } from '../scaling/activator.js';
import { RevisionWithoutTraffic } from '../traffic/errors.js';
import type { Choice } from '../traffic/traffic.js';
import type { MemoryReservation } from '../memory/memory-budget.js';
import { type AttemptOf, CallEnds, type CallKind } from './call-ends.js';
import { CallMetrics } from './call-metrics.js';
import type { CallTiming } from './call-timing.js';
import type { Cancellation } from './cancellation.js';
import {
  CallCancelled,
  FunctionDisabled,
  FunctionNotRunnable,
  FunctionOverloaded,
  HandlerResponseInvalid,
  HandlerResultInvalid,
  HandlerTimeout,
  HttpUnsupported,
  WebSocketFailed,
  WorkerCrashed,
} from './errors.js';
import { exchangeHttp, type HttpRequest, type WebSocketCaller } from './http-exchange.js';
import { PostMortem } from './post-mortem.js';
import { functionOf, isCallable, type Route, Router } from './router.js';
import { type Replica, Slot } from './slot-pool.js';
import { isExplained, isResult, meaningOf } from './worker-answer.js';
import { type AnswerSink, callWorker, type WorkerAnswer, type WorkerCall } from './worker-client.js';

/** One call of a function, whoever makes it. */
export interface Call {
  readonly kind: CallKind;
  readonly requestId: string;
  /** The same where it is a UUID that no other call has: the call is kept under it, too. */
  readonly freshId?: string | undefined;
  /** The name of the key that it came with; null: none. */
  readonly createdBy: string | null;
  readonly attemptOf?: AttemptOf | undefined;
  readonly cancellation: Cancellation;
  readonly timing: CallTiming;
  /** What the call keeps in memory is counted here, from the moment its function has a place for it. */
  readonly reservation: MemoryReservation;
  /**
   * The body for the worker, `{"payload": "…"}`, sent as it is. Read only when the function has a place for the call,
   * so that a flood of calls of one function takes as little as possible from the calls of the others.
   */
  readonly readPayload: () => Promise<Buffer>;
  /** Which revision it wants; undefined: any that its function's traffic gives it. */
  readonly choice?: Choice | undefined;
  /** Nobody waits for its answer, so that it lets all others go first. */
  readonly isBackground?: boolean;
  /** Takes a result that is too large to be kept. Without it every result is kept whole. */
  readonly sink?: AnswerSink;
  /** Its function has yet to begin. */
  readonly start?: FirstStart;
  /** It is an HTTP call, whose answer goes where this says. `readPayload` reads the beginning of its body. */
  readonly http?: HttpRequest;
}

/** A function that is called before its first worker is ready. */
export interface FirstStart extends Omit<Started, 'id'> {
  /** Called when a worker has a place for the call. */
  readonly onWorker: () => void;
}

/** A background call's is read when it has a slot: those that wait for one keep nothing in memory. */
type Body = Buffer | (() => Promise<Buffer>);

/** What became of one try. */
type Outcome = Buffer | 'streamed' | 'not_sent' | 'refused';

/** A replaced worker takes a moment to come back, so calls wait at least this long for one. */
const SHORTEST_WAIT_MS = 10_000;
/** Workers refuse while they are being replaced; one that goes on refusing is no worker of ours. */
const MOST_REFUSALS = 8;

/** Runs a call: route, slot, worker, meaning of the answer. It knows nothing of how the call came in. */
@Injectable()
export class Invoker {
  constructor(
    private readonly router: Router,
    private readonly repository: FunctionRepository,
    private readonly postMortem: PostMortem,
    private readonly activator: Activator,
    private readonly metrics: CallMetrics,
    private readonly ends: CallEnds,
  ) {}

  /**
   * The worker's body of a successful call, byte for byte, unless the sink has got it. Throws the domain error of
   * everything else. Each call is counted and told of once, by its outcome.
   */
  async invoke(id: FunctionId, call: Call): Promise<Buffer | 'streamed'> {
    const { reservation, timing, start } = call;
    this.ends.begin(timing, call.freshId);
    // A call that a worker has runs on, whatever becomes of the start.
    void start?.failure.then((failure) => failure && timing.sentAt === 0 && call.cancellation.cancel());
    let body: Body | undefined;
    try {
      const found = this.chosen(id, call);
      if (!(found instanceof Promise) && call.isBackground !== true) refuseIfFull(found, timing);
      reservation.begin();
      const route = found instanceof Promise ? await found : found;
      // No payload is read before it is known whose share it counts in.
      reservation.countFor(route.share);
      if (call.http?.webSocket !== undefined) admit(call.http.webSocket, route, timing);
      body = call.isBackground === true ? readOnce(call) : await call.readPayload();
      const result = await this.run(route, body, call);
      const now = performance.now();
      this.metrics.ended('ok', timing, now, call.kind);
      this.tell(call, now, body, result);
      return result;
    } catch (thrown) {
      const error = await whyNoWorker(thrown, call);
      const now = performance.now();
      const code = error instanceof AppError ? error.code : 'internal_error';
      this.metrics.ended(code, timing, now, call.kind);
      this.tell(call, now, body, undefined, { code, detail: error instanceof AppError ? error.message : undefined });
      throw error;
    }
  }

  /** Tells of a call of a function that there is. */
  private tell(
    { kind, requestId, timing, createdBy, attemptOf, http }: Call,
    endedAt: number,
    body: Body | undefined,
    result: Buffer | 'streamed' | undefined,
    problem?: { readonly code: string; readonly detail: string | undefined },
  ): void {
    const { id, calledId, keeps } = timing;
    if (id === undefined || calledId === undefined) return;
    if (http === undefined && body instanceof Buffer) timing.requestBytes = body.length;
    // A WebSocket's request has no body: what its client has sent after it is noted already.
    if (http !== undefined && !timing.isWebSocket) timing.requestBytes = http.body.bytes;
    if (result instanceof Buffer) timing.answerBytes = result.length;
    const exchanged =
      keeps?.payloads !== undefined && kind === 'execute' && body instanceof Buffer && Math.random() < keeps.payloads
        ? { body, result: result instanceof Buffer ? result : undefined, redact: keeps.redact ?? REDACTED }
        : undefined;
    const { code, detail } = problem ?? NO_PROBLEM;
    this.ends.tell({ id, kind, requestId, timing, code, detail, endedAt, createdBy, attemptOf, exchanged });
  }

  /** The route of the workers that shall have the call. Throws {@link RevisionWithoutTraffic}. */
  private chosen(reference: string, call: Call): Route | Promise<Route> {
    const found = this.router.route(reference);
    if (found instanceof Promise) return found.then((route) => this.chosenOf(route, reference, call));
    return this.chosenOf(found, reference, call);
  }

  private chosenOf(route: Route, reference: string, call: Call): Route | Promise<Route> {
    const { split } = route;
    const { timing, choice } = call;
    if (!isCallable(route) && call.kind !== 'run') throw new FunctionNotFound(reference);
    timing.calledId = route.id;
    timing.servedBy = route.revision;
    timing.keeps = route.history;
    if (split === undefined) {
      if (choice !== undefined && !isChosen(route, choice)) throw new RevisionWithoutTraffic(route.id, named(choice));
      return route;
    }
    if (route.leaving && route.refusal) throw route.refusal;
    if (route.isDisabled) throw new FunctionDisabled(route.id);
    const target = split.choose(choice ?? ANY);
    if (target === undefined) throw new RevisionWithoutTraffic(route.id, named(choice ?? ANY));
    timing.dividedTo = target.revision;
    return target.workload === route.id ? route : this.workload(route, target.workload, call);
  }

  /** This manager may hear late that a revision has lost its traffic, and its workers are gone. */
  private workload(route: Route, id: FunctionId, call: Call): Route | Promise<Route> {
    const found = this.router.route(id);
    if (!(found instanceof Promise)) return found;
    return found.catch((error: unknown) => {
      if (!(error instanceof FunctionNotFound)) throw error;
      return this.again(route, call);
    });
  }

  /** The route of a call whose own may have gone: a revision may have lost its traffic meanwhile. */
  private async again(former: Route, call: Call): Promise<Route> {
    const functionId = functionOf(former);
    await this.router.refresh(functionId);
    const route = await this.chosen(functionId, call);
    if (route.refusal) throw route.refusal;
    return route;
  }

  private async run(first: Route, body: Body, call: Call): Promise<Buffer | 'streamed'> {
    call.timing.functionId = functionOf(first);
    // It may have changed, or gone, while the payload arrived.
    let route = this.router.knownRoute(first.id) ?? (await this.again(first, call));
    const waitMs = (call.start?.withinMs ?? 0) + SHORTEST_WAIT_MS;
    const giveUpAt = performance.now() + Math.max(route.timeoutMs, waitMs);
    let refusals = 0;
    for (;;) {
      if (route.refusal) {
        if (!route.leaving || route.workloadOf === null) throw route.refusal;
        route = await this.again(route, call);
      }
      if (route.pool.isEmpty) {
        call.timing.isCold = true;
        if (route.sleeps) this.activator.wake(route);
      }
      let result: Outcome;
      try {
        result = await this.attempt(route, body, call, giveUpAt);
      } catch (error) {
        // Its revision lost its traffic while the call waited for one of its workers.
        if (!(error instanceof FunctionNotRunnable) || !route.leaving || route.workloadOf === null) throw error;
        route = await this.again(route, call);
        continue;
      }
      if (result instanceof Buffer || result === 'streamed') return result;
      if (call.http?.body.isUsed === true) {
        throw new FunctionNotReady(functionOf(route), 'its worker let go of the call when it had a part of the body.');
      }
      call.timing.untried();
      if (result === 'refused') refusals += 1;
      if (refusals > MOST_REFUSALS) throw new FunctionNotReady(functionOf(route), 'its workers take no calls.');
    }
  }

  /**
   * One try on one replica. It may be tried again when nothing was sent, and when the worker says that it refused the
   * call before the handler was called.
   */
  private async attempt(route: Route, body: Body, call: Call, giveUpAt: number): Promise<Outcome> {
    const { timing } = call;
    const now = performance.now();
    timing.waits(now);
    const taken = route.pool.acquire({
      waitMs: Math.max(giveUpAt - now, 1),
      cancellation: call.cancellation,
      isBackground: call.isBackground === true,
      refused: (why, waiting) => refusal(route, why, waiting),
    });
    const slot = taken instanceof Slot ? taken : await taken;
    // Not `using`: what that is compiled to costs more than taking and giving back the slot does.
    try {
      call.start?.onWorker();
      const sent = typeof body === 'function' ? await body() : body;
      timing.sends(performance.now());
      timing.revision = slot.replica.endpoint.revision ?? route.revision;
      timing.replica = slot.replica.endpoint.replica;
      timing.requestBytes = sent.length;
      const { connections } = slot.replica;
      const request = requestOf(route, sent, call);
      const answer = await (call.http === undefined
        ? callWorker(connections, request)
        : exchangeHttp(connections, call.http, request));
      const took = timing.returns(performance.now());
      if (answer.kind === 'cut_off') {
        const startedAt = new Date(Date.now() - took);
        throw await this.postMortem.of(route.id, slot.replica.endpoint, startedAt, call.cancellation, answer.reason);
      }
      return this.outcome(route, slot.replica, answer, call, took);
    } finally {
      slot[Symbol.dispose]();
    }
  }

  private outcome(
    route: Route,
    replica: Replica,
    answer: Exclude<WorkerAnswer, { kind: 'cut_off' }>,
    { timing, http }: Call,
    took: number,
  ): Outcome {
    // Those who wait don't wait for as long as somebody keeps a WebSocket open.
    const isLasting = http?.webSocket !== undefined;
    switch (answer.kind) {
      case 'answered': {
        const meaning = http === undefined ? meaningFor(answer, route.timeoutMs) : meaningOfHttp(answer, route);
        if (meaning === 'refused') {
          this.setAside(route, replica);
          return 'refused';
        }
        timing.isAnswered = true;
        route.serviceTime.note(took);
        if (meaning instanceof Buffer) return meaning;
        throw meaning;
      }
      case 'streamed':
        timing.isAnswered = true;
        timing.answerBytes = answer.bytes;
        if (!isLasting) route.serviceTime.note(took);
        return judged(http);
      case 'failed':
        timing.isAnswered = true;
        throw new WebSocketFailed();
      case 'invalid':
        throw new HandlerResponseInvalid(`The handler's answer can't be sent: ${answer.reason}.`);
      case 'broken_off':
        timing.answerBytes = answer.bytes;
        throw new WorkerCrashed('unknown', `the answer broke off: ${answer.reason}`);
      case 'given_up':
        throw new WorkerCrashed('unknown', `${answer.reason}.`, "The manager gave up the worker's answer");
      case 'no_room':
      case 'unsendable':
        throw answer.error;
      case 'not_sent':
        // Nobody can tell whether the address is still this function's: better no answer than another one's.
        if (answer.error instanceof OrchestratorUnavailable) throw answer.error;
        this.setAside(route, replica);
        return 'not_sent';
      case 'timed_out':
        if (!isLasting) route.serviceTime.note(took);
        throw new HandlerTimeout(route.timeoutMs, answer.idleMs);
      case 'cancelled':
        throw new CallCancelled();
    }
  }

  /** A replica that refuses is left alone for a moment, and the engine is asked to look at the function. */
  private setAside(route: Route, replica: Replica): void {
    route.pool.setAside(replica);
    // A lost request is harmless: the engine's own hints and the resync say the same.
    this.repository.requestReconcile(route.id).catch(() => undefined);
  }
}

/** Why a call has failed. Where its function never had a worker, what kept it from one says more than the call can. */
async function whyNoWorker(error: unknown, { start, timing }: Call): Promise<unknown> {
  if (start === undefined || timing.sentAt > 0) return error;
  const kinds = [FunctionNotRunnable, FunctionNotReady, FunctionNotFound, CallCancelled];
  return kinds.some((kind) => error instanceof kind) ? ((await start.failure) ?? error) : error;
}

/** Throws what keeps another one of its function from being opened, which counts as the function's. */
function admit(webSocket: WebSocketCaller, route: Route, timing: CallTiming): void {
  timing.functionId = functionOf(route);
  webSocket.admit(timing.functionId);
}

function judged(http: Call['http']): 'streamed' {
  const fault = http?.sink.fault?.();
  if (fault !== undefined) throw fault;
  return 'streamed';
}

function readOnce({ readPayload }: Call): Body {
  let body: Promise<Buffer> | undefined;
  return () => (body ??= readPayload());
}

function requestOf({ id, timeoutMs, streams }: Route, body: Buffer, call: Call): WorkerCall {
  const { requestId, attemptOf, cancellation, timing, reservation, sink } = call;
  const moments = timing.isCold ? timing : undefined;
  return {
    functionId: id,
    body,
    requestId,
    attempt: attemptOf?.attempt,
    timeoutMs,
    cancellation,
    reservation,
    sink,
    streams,
    moments,
  };
}

/** Throws {@link FunctionOverloaded} when the queue for these workers is full, before anything is read. */
function refuseIfFull(route: Route, timing: CallTiming): void {
  if (route.refusal !== undefined || !route.pool.isFull) return;
  timing.functionId = functionOf(route);
  timing.isCold = route.pool.isEmpty;
  throw overload(route, route.pool.waiting);
}

const NO_PROBLEM = { code: undefined, detail: undefined };
const ANY: Choice = {};

/** Whether the revision that has all calls is the one that the call names, if it names any. */
function isChosen({ revision }: Route, choice: Choice): boolean {
  return choice.tag === undefined && (choice.revision === undefined || choice.revision === revision);
}

function named({ revision, tag }: Choice): string {
  return revision === undefined ? `the tag ${JSON.stringify(tag)}` : `revision ${revision}`;
}

/** The result, the error that the answer means, or that the worker refused the call. */
function meaningFor({ status, body }: { status: number; body: Buffer }, timeoutMs: number) {
  if (status !== 200) return meaningOf(status, body, timeoutMs);
  return isResult(body) ? body : new HandlerResultInvalid('The worker did not answer {"result": …}.');
}

/** Why there is no answer of the handler, or that the worker refused the call. */
function meaningOfHttp(
  { status, body, runner }: { status: number; body: Buffer; runner?: string | undefined },
  route: Route,
) {
  if (isExplained(body)) return meaningOf(status, body, route.timeoutMs);
  // A worker of ours that knows no such calls says that there is no such path, or method.
  if (runner === undefined || status === 404 || status === 405) return new HttpUnsupported(functionOf(route));
  return new WorkerCrashed('unknown', `it answered ${status} without saying why.`, 'The worker failed on the call');
}

function refusal(route: Route, why: 'queue_full' | 'waited_too_long' | 'cancelled', waiting: number): AppError {
  switch (why) {
    case 'cancelled':
      return new CallCancelled();
    case 'queue_full':
      return overload(route, waiting);
    case 'waited_too_long':
      return route.pool.size > 0
        ? overload(route, waiting)
        : new FunctionNotReady(functionOf(route), 'no replica answered in time.');
  }
}

function overload(route: Route, waiting: number): FunctionOverloaded {
  const { pool, serviceTime } = route;
  return new FunctionOverloaded(functionOf(route), waiting, serviceTime.retryAfterSeconds(waiting, pool.slots));
}
