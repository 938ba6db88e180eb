import { AppError } from '#libs/errors/app-error.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import type { Writable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { areTooManyPieces, Chunks } from '../memory/chunks.js';
import type { MemoryReservation } from '../memory/memory-budget.js';
import { notePassed } from '../memory/passed-bytes.js';
import type { Cancellation } from './cancellation.js';
import type { Connection, Connections } from './connections.js';
import type { Expiring } from './deadlines.js';
import { CLOSE_BRACE, lastByte, PARSED_BYTES } from '#libs/json/json-scan.js';
import { beginsResult } from './worker-answer.js';

/** Of one function, at this moment. */
export class OpenStreams {
  answers = 0;
  webSockets = 0;
}

/** Where a result goes that is too large to be kept in memory. */
export interface AnswerSink {
  /** `bytes`: the length, where the worker announced it. */
  begin(bytes: number | undefined): Writable;
}

export interface WorkerCall {
  /** The function that is called: a worker of another function refuses. */
  readonly functionId: FunctionId;
  readonly body: Buffer;
  readonly requestId: string;
  /** How often it was tried, with this time; unset: once. */
  readonly attempt?: number | undefined;
  readonly timeoutMs: number;
  readonly cancellation: Cancellation;
  /** Counts what is kept of the answer. */
  readonly reservation?: Pick<MemoryReservation, 'add'> | undefined;
  /** Without it every answer is kept until it is complete. */
  readonly sink?: AnswerSink | undefined;
  /** Counts answers to HTTP calls that have begun, and WebSockets. */
  readonly streams?: OpenStreams | undefined;
  /** Gets the moments when the request was written and its answer began, in `performance.now()` milliseconds. */
  readonly moments?: { requestedAt: number; firstByteAt: number } | undefined;
}

export type WorkerAnswer =
  /**
   * The body is complete if it is a result; of anything else only the beginning is kept. `runner`: of an HTTP call,
   * where the worker names it.
   */
  | { readonly kind: 'answered'; readonly status: number; readonly body: Buffer; readonly runner?: string | undefined }
  /** The complete result went to the sink. */
  | { readonly kind: 'streamed'; readonly bytes: number }
  /** A part of the result went to the sink, then the answer broke off. */
  | { readonly kind: 'broken_off'; readonly reason: string; readonly bytes: number }
  /** The application has ended its WebSocket by saying that it has failed. */
  | { readonly kind: 'failed' }
  /** There is no memory for the answer. */
  | { readonly kind: 'no_room'; readonly error: AppError }
  /** No worker can be sent the call, as it is no right request. */
  | { readonly kind: 'unsendable'; readonly error: AppError }
  /** No byte of the call was sent: sending it again is safe. */
  | { readonly kind: 'not_sent'; readonly reason: string; readonly error: Error }
  /** The connection ended after the call was sent and before the answer was complete. */
  | { readonly kind: 'cut_off'; readonly reason: string; readonly runner: string | undefined }
  /** The manager ended an answer that passes its bounds; the worker lives. */
  | { readonly kind: 'given_up'; readonly reason: string }
  /** What the handler answers to an HTTP call can't be sent. */
  | { readonly kind: 'invalid'; readonly reason: string }
  /** `idleMs`: an answer that had begun paused for longer. */
  | { readonly kind: 'timed_out'; readonly idleMs?: number | undefined }
  | { readonly kind: 'cancelled' };

/** The longest answer that is accepted of a worker. */
const LARGEST_ANSWER_BYTES = 64 * 1024 * 1024;
/** A larger result goes to its caller while it arrives, as fast as the caller reads. */
const KEPT_BYTES = 256 * 1024;
/** Informational answers (RFC 9110, 15.2) that are accepted before the answer. A worker needs none. */
const MOST_INTERIM_ANSWERS = 4;
const RUNNER = /^\d{1,10}$/;

/**
 * Sends one call over a connection of the replica and waits until its answer is complete or went to the sink. Never
 * throws.
 */
export function callWorker(connections: Connections, call: WorkerCall): Promise<WorkerAnswer> {
  return new Promise((resolve) => {
    const now = performance.now();
    const connection = connections.take(now);
    const exchange = new Exchange(connections, connection, call, now + call.timeoutMs, resolve);
    connection.client.dispatch(
      {
        method: 'POST',
        path: '/',
        headers: [
          ...connections.tokenHeader,
          'content-type',
          'application/json',
          'x-faas-function',
          call.functionId,
          'x-request-id',
          call.requestId,
          'x-faas-timeout-ms',
          String(call.timeoutMs),
          ...attemptHeader(call),
        ],
        body: call.body,
      },
      exchange,
    );
  });
}

/** Tells a handler how often its call was tried. */
export function attemptHeader({ attempt }: WorkerCall): readonly string[] {
  return attempt === undefined ? NO_HEADER : ['x-faas-attempt', String(attempt)];
}

const NO_HEADER: readonly string[] = [];

class Exchange implements Dispatcher.DispatchHandler, Expiring {
  private controller: Dispatcher.DispatchController | undefined;
  private status = 0;
  private headers: Record<string, unknown> = {};
  private runner: string | undefined;
  private readonly chunks = new Chunks();
  private size = 0;
  private pieces = 0;
  private interim = 0;
  private settled = false;
  private stream: Writable | undefined;
  /** The last byte that went to the stream and is no white space. */
  private lastSent: number | undefined;
  /** What is left of the time limit while the caller reads nothing: that time doesn't count. */
  private leftMs = 0;

  constructor(
    private readonly connections: Connections,
    private readonly connection: Connection,
    private readonly call: WorkerCall,
    public expiresAt: number,
    private readonly resolve: (answer: WorkerAnswer) => void,
  ) {
    connections.deadlines.add(this);
    const cancel = () => this.abandon({ kind: 'cancelled' });
    if (call.cancellation.isCancelled) queueMicrotask(cancel);
    else call.cancellation.onCancel(cancel);
  }

  expire(): void {
    this.abandon({ kind: 'timed_out' });
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.controller = controller;
    const { moments } = this.call;
    if (moments) moments.requestedAt = performance.now();
    if (this.settled) controller.abort(new Error('The call was given up before it began.'));
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: Record<string, unknown>): void {
    if (status < 200) {
      this.interim += 1;
      if (this.interim > MOST_INTERIM_ANSWERS) this.giveUp('it sent interim answers without end');
      return;
    }
    this.status = status;
    const { moments } = this.call;
    if (moments) moments.firstByteAt = performance.now();
    this.headers = headers;
    const runner = headers['x-faas-runner'];
    if (typeof runner === 'string' && RUNNER.test(runner)) this.runner = runner;
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.size += chunk.length;
    this.pieces += 1;
    if (this.size > LARGEST_ANSWER_BYTES) this.refuseTooLarge();
    else if (areTooManyPieces(this.pieces, this.size)) this.giveUp('its answer came in too many pieces');
    else if (this.stream !== undefined) this.pass(this.stream, controller, chunk);
    else this.keep(controller, chunk);
  }

  onResponseEnd(): void {
    if (this.isOfAnother()) return;
    if (this.stream !== undefined && this.lastSent !== CLOSE_BRACE) {
      this.abandon({ kind: 'broken_off', reason: 'its result has no end', bytes: this.size });
      return;
    }
    if (!this.settle()) return;
    if (this.runner !== undefined) this.connections.noteAnswer(this.connection, this.runner, performance.now());
    this.connections.release(this.connection);
    if (this.stream === undefined) {
      this.resolve({ kind: 'answered', status: this.status, body: this.chunks.take() });
      return;
    }
    this.stream.end();
    this.resolve({ kind: 'streamed', bytes: this.size });
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (!this.settle()) return;
    const { runner } = this.connection;
    this.connections.abandon(this.connection);
    const reason = error.message;
    this.stream?.destroy();
    if (this.stream !== undefined) this.resolve({ kind: 'broken_off', reason, bytes: this.size });
    else {
      this.resolve(
        this.controller === undefined ? { kind: 'not_sent', reason, error } : { kind: 'cut_off', reason, runner },
      );
    }
  }

  private keep(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    const { reservation, sink } = this.call;
    if (reservation !== undefined) {
      try {
        reservation.add(chunk.length);
      } catch (error) {
        if (!(error instanceof AppError)) throw error;
        this.abandon({ kind: 'no_room', error });
        return;
      }
    }
    this.chunks.add(chunk);
    // Only the beginning of a failure is read.
    if (this.status !== 200 && this.size > PARSED_BYTES) {
      if (!this.isOfAnother()) this.abandon({ kind: 'answered', status: this.status, body: this.chunks.take() });
      return;
    }
    if (this.size > KEPT_BYTES && this.status === 200 && sink !== undefined) this.beginStream(controller, sink);
  }

  /** From here on a failure can only break the answer off: its status has been sent. */
  private beginStream(controller: Dispatcher.DispatchController, sink: AnswerSink): void {
    const beginning = this.chunks.take();
    if (this.isOfAnother()) return;
    if (!beginsResult(beginning)) {
      this.abandon({ kind: 'answered', status: this.status, body: beginning });
      return;
    }
    const announced = this.headers['content-length'];
    const bytes = typeof announced === 'string' ? Number(announced) : undefined;
    if (bytes !== undefined && bytes > LARGEST_ANSWER_BYTES) {
      this.refuseTooLarge();
      return;
    }
    this.stream = sink.begin(bytes);
    this.stream.on('drain', () => this.goOn(controller));
    this.pass(this.stream, controller, beginning);
  }

  private pass(stream: Writable, controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.lastSent = lastByte(chunk) ?? this.lastSent;
    notePassed(chunk.length);
    if (stream.write(chunk) || controller.paused) return;
    controller.pause();
    this.leftMs = this.expiresAt - performance.now();
    // The HTTP server limits how long a caller may take to read.
    this.expiresAt = Infinity;
  }

  private goOn(controller: Dispatcher.DispatchController): void {
    if (this.settled || !controller.paused) return;
    this.expiresAt = performance.now() + this.leftMs;
    this.connections.deadlines.add(this);
    controller.resume();
  }

  /** Ends an answer that can't be the replica's, because it names no runner. */
  private isOfAnother(): boolean {
    if (this.connections.accepts(this.runner)) return false;
    this.abandon({ kind: 'cut_off', reason: 'another worker has its address', runner: this.runner });
    return true;
  }

  private refuseTooLarge(): void {
    this.giveUp(`its answer passed ${LARGEST_ANSWER_BYTES} bytes`);
  }

  private giveUp(reason: string): void {
    this.abandon(
      this.stream === undefined ? { kind: 'given_up', reason } : { kind: 'broken_off', reason, bytes: this.size },
    );
  }

  private abandon(answer: WorkerAnswer): void {
    if (!this.settle()) return;
    this.controller?.abort(new Error('The manager gave the call up.'));
    this.connections.abandon(this.connection);
    this.stream?.destroy();
    this.resolve(answer);
  }

  private settle(): boolean {
    if (this.settled) return false;
    this.settled = true;
    this.connections.deadlines.delete(this);
    this.call.cancellation.onCancel(undefined);
    return true;
  }
}
