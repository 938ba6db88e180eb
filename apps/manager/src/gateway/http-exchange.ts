import { AppError } from '#libs/errors/app-error.js';
import { InvalidRequest } from '#libs/errors/errors.js';
import { createHash } from 'node:crypto';
import type { Duplex, Readable, Writable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { PARSED_BYTES } from '#libs/json/json-scan.js';
import { Chunks } from '../memory/chunks.js';
import { notePassed } from '../memory/passed-bytes.js';
import type { Connection, Connections } from './connections.js';
import type { Expiring } from './deadlines.js';
import { headersOfHandler, type Mount } from './http-headers.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { WebSocketTunnel } from './web-socket-tunnel.js';
import { attemptHeader, type WorkerAnswer, type WorkerCall } from './worker-client.js';

/** The HTTP side of a call that a handler answers as it likes. */
export interface HttpRequest {
  readonly method: string;
  /** With the query. */
  readonly target: string;
  readonly mount: Mount;
  /** By name and value in turn. */
  readonly headers: readonly string[];
  readonly body: HttpBody;
  /** The largest body that may be a payload. */
  readonly payloadBytes: number;
  /** How long an answer that has begun may pause. */
  readonly idleMs: number;
  readonly sink: HttpSink;
  /** It asks for a WebSocket. */
  readonly webSocket?: WebSocketCaller | undefined;
}

/** Who asks for a WebSocket. */
export interface WebSocketCaller {
  /** What an acceptance is told by (RFC 6455, 4.2.2). */
  readonly key: string;
  /** Takes its place among those of its function. Throws where there is none. */
  admit(id: FunctionId): void;
  /** Answers that it is accepted, and gives the connection. Throws where `headers` can't be sent. */
  begin(headers: readonly string[]): Duplex;
  opened(tunnel: WebSocketTunnel): void;
  closed(tunnel: WebSocketTunnel): void;
}

/** The body of an HTTP call, of which only a beginning may be there. */
export interface HttpBody {
  /** How much of it has been read. */
  readonly bytes: number;
  /** All of it, where that is known before it is sent. */
  readonly whole: Buffer | undefined;
  /** The length that its sender has announced. */
  readonly announced: string | undefined;
  readonly isRead: boolean;
  /** More than what is kept has been read: it can't be sent again. */
  readonly isUsed: boolean;
  /** What is kept at once, and the rest when `mayGoOn` resolves: a worker that takes the call reads on. */
  pieces(mayGoOn: Promise<boolean>): AsyncGenerator<Buffer, void>;
}

/** Where a handler's answer goes. */
export interface HttpSink {
  /** Throws where `headers` can't be sent. */
  begin(status: number, headers: readonly string[]): Writable;
  /** Why an answer that has arrived whole is a failure all the same; unset: none is. */
  fault?(): AppError | undefined;
}

/** So that a worker that knows nothing of such calls doesn't take them for others. */
const PREFIX = '/.http';
/** What a stream keeps of an answer that isn't read fast enough. */
const PASSED_BYTES = 64 * 1024;
const MOST_INTERIM_ANSWERS = 4;
const GUID_OF_WEB_SOCKETS = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const RUNNER = /^\d{1,10}$/;
const ERROR_CODE = /^[a-z_]{1,64}$/;
const UNSENDABLE = 'it has a header with characters that none may have';
const INVALID_REQUEST = 'UND_ERR_INVALID_ARG';
const HEADERS_OVERFLOW = 'UND_ERR_HEADERS_OVERFLOW';

/** Hands an HTTP call to a worker and its answer to the sink, neither of them whole. Never throws. */
export function exchangeHttp(connections: Connections, http: HttpRequest, call: WorkerCall): Promise<WorkerAnswer> {
  return new Promise((resolve) => {
    const now = performance.now();
    const connection = connections.take(now);
    const exchange = new HttpExchange(connections, connection, http, call, now + call.timeoutMs, resolve);
    const { whole, announced } = http.body;
    const headers = [
      ...connections.tokenHeader,
      ...http.headers,
      'x-faas-function',
      call.functionId,
      'x-faas-timeout-ms',
      String(call.timeoutMs),
      'x-faas-payload-bytes',
      String(http.payloadBytes),
      ...attemptHeader(call),
    ];
    if (whole === undefined) {
      headers.push('x-faas-hold', '1');
      if (announced !== undefined) headers.push('content-length', announced);
    }
    connection.client.dispatch(
      {
        method: http.method,
        path: `${PREFIX}${escaped(http.target)}`,
        headers,
        body: whole === undefined ? exchange.pieces() : whole.length > 0 ? whole : null,
        // Or it would end the connection after HEAD, and after other methods that have a body.
        ...(http.webSocket === undefined ? { reset: false } : { upgrade: 'websocket' }),
      },
      exchange,
    );
  });
}

/** Callers may send any byte in it, workers take those of the standard (RFC 3986) and some more. */
function escaped(target: string): string {
  return target.replace(
    /[^\x21-\x7e]/g,
    (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`,
  );
}

class HttpExchange implements Dispatcher.DispatchHandler, Expiring {
  expiresAt: number;
  private controller: Dispatcher.DispatchController | undefined;
  private status = 0;
  private headers: Record<string, unknown> = {};
  private runner: string | undefined;
  private interim = 0;
  private settled = false;
  /** The answer is the handler's own. */
  private isOfHandler = false;
  private length: number | undefined;
  private stream: Writable | undefined;
  /** What came before the head has gone out; of the worker's own answers, their beginning. */
  private readonly kept = new Chunks();
  private keptBytes = 0;
  private leftMs = 0;
  private passedBytes = 0;
  private readonly mayGoOn = Promise.withResolvers<boolean>();

  constructor(
    private readonly connections: Connections,
    private readonly connection: Connection,
    private readonly http: HttpRequest,
    private readonly call: WorkerCall,
    /** The time limit of all of it. */
    private endsAt: number,
    private readonly resolve: (answer: WorkerAnswer) => void,
  ) {
    this.expiresAt = endsAt;
    connections.deadlines.add(this);
    const cancel = () => this.abandon({ kind: 'cancelled' });
    if (call.cancellation.isCancelled) queueMicrotask(cancel);
    else call.cancellation.onCancel(cancel);
  }

  /** Iterables are bodies too, which the type leaves out. */
  pieces(): Readable {
    return this.http.body.pieces(this.mayGoOn.promise) as unknown as Readable;
  }

  expire(): void {
    this.abandon({ kind: 'timed_out', idleMs: this.expiresAt < this.endsAt ? this.http.idleMs : undefined });
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.controller = controller;
    const { moments } = this.call;
    if (moments) moments.requestedAt = performance.now();
    if (this.settled) controller.abort(new Error('The call was given up before it began.'));
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: Record<string, unknown>): void {
    if (status < 200) {
      this.mayGoOn.resolve(true);
      this.interim += 1;
      if (this.interim > MOST_INTERIM_ANSWERS) this.giveUp('it sent interim answers without end');
      return;
    }
    if (!this.readHead(status, headers) || !this.isOfHandler) return;
    const announced = headers['content-length'];
    this.length = typeof announced === 'string' ? Number(announced) : undefined;
    // Its handler may wait for more of the body before it goes on.
    this.mayGoOn.resolve(true);
    // The head of a short answer goes out together with its body.
    if (this.length === undefined && this.http.method !== 'HEAD') this.begin();
  }

  /** False where it is of another worker. */
  private readHead(status: number, headers: Record<string, unknown>): boolean {
    this.status = status;
    this.headers = headers;
    const { moments } = this.call;
    if (moments) moments.firstByteAt = performance.now();
    const runner = headers['x-faas-runner'];
    if (typeof runner === 'string' && RUNNER.test(runner)) this.runner = runner;
    if (!this.connections.accepts(this.runner)) {
      this.abandon({ kind: 'cut_off', reason: 'another worker has its address', runner: this.runner });
      return false;
    }
    this.isOfHandler = headers['x-faas-answer'] === '1';
    return true;
  }

  onRequestUpgrade(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, unknown>,
    socket: Duplex,
  ): void {
    // Until somebody else listens.
    socket.on('error', () => socket.destroy());
    if (this.readHead(status, headers) && !this.settled) this.beginWebSocket(socket);
    if (this.connection.upgraded !== socket) socket.destroy();
  }

  private beginWebSocket(socket: Duplex): void {
    const { connection, connections, http, call, runner } = this;
    const { webSocket } = http;
    const accepted = createHash('sha1').update(`${webSocket?.key}${GUID_OF_WEB_SOCKETS}`).digest('base64');
    // The caller may not be let through to a worker that goes on reading HTTP.
    if (webSocket === undefined || !this.isOfHandler || this.headers['sec-websocket-accept'] !== accepted) {
      this.giveUp('it accepted a WebSocket with a wrong answer');
      return;
    }
    const { 'content-length': _, 'sec-websocket-extensions': __, ...headers } = this.headers;
    const found = headersOfHandler(headers, http.mount);
    if ('fault' in found) {
      this.abandon({ kind: 'invalid', reason: found.fault });
      return;
    }
    let client: Duplex;
    try {
      call.reservation?.add(PASSED_BYTES);
      client = webSocket.begin(found.pairs);
    } catch (error) {
      this.abandon(error instanceof AppError ? { kind: 'no_room', error } : { kind: 'invalid', reason: UNSENDABLE });
      return;
    }
    this.settle();
    if (runner !== undefined) connections.noteAnswer(connection, runner, performance.now());
    connections.handOver(connection, socket);
    const { streams, cancellation } = call;
    if (streams !== undefined) streams.webSockets += 1;
    const { idleMs } = http;
    const options = { deadlines: connections.deadlines, endsAt: this.endsAt, idleMs, cancellation };
    const tunnel = new WebSocketTunnel(client, socket, options, (answer) => {
      if (streams !== undefined) streams.webSockets -= 1;
      connections.letGo(connection);
      webSocket.closed(tunnel);
      this.resolve(answer);
    });
    webSocket.opened(tunnel);
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.passedBytes += chunk.length;
    notePassed(chunk.length);
    if (!this.isOfHandler) this.keep(chunk);
    else if (this.stream === undefined && chunk.length === this.length) this.kept.add(chunk);
    else {
      const stream = this.stream ?? this.begin();
      if (stream === undefined) return;
      this.expiresAt = Math.min(this.endsAt, performance.now() + this.http.idleMs);
      if (stream.write(chunk) || controller.paused) return;
      controller.pause();
      this.leftMs = this.endsAt - performance.now();
      // The HTTP server limits how long a caller may take to read.
      this.expiresAt = Infinity;
    }
  }

  onResponseEnd(): void {
    const stream = this.isOfHandler ? (this.stream ?? this.begin()) : undefined;
    if (!this.settle()) return;
    if (this.runner !== undefined) this.connections.noteAnswer(this.connection, this.runner, performance.now());
    // An answer may come before all of the body has been sent, and nothing can follow it on this connection.
    if (!this.http.body.isRead) this.connection.closed = true;
    this.connections.release(this.connection);
    if (stream === undefined) {
      const { status, runner } = this;
      this.resolve({ kind: 'answered', status, body: this.errorOfHead() ?? this.kept.take(), runner });
      return;
    }
    stream.end(this.kept.take());
    this.resolve({ kind: 'streamed', bytes: this.passedBytes });
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (!this.settle()) return;
    const { runner } = this.connection;
    this.connections.abandon(this.connection);
    const reason = error.message;
    const { code } = error as NodeJS.ErrnoException;
    if (this.stream !== undefined) {
      this.stream.destroy();
      this.resolve({ kind: 'broken_off', reason, bytes: this.passedBytes });
    } else if (code === INVALID_REQUEST) {
      const refusal = new InvalidRequest(`The request can't be handed to a function: ${reason}.`);
      this.resolve({ kind: 'unsendable', error: refusal });
    } else if (this.controller === undefined) this.resolve({ kind: 'not_sent', reason, error });
    else if (code === HEADERS_OVERFLOW) {
      this.resolve({ kind: 'invalid', reason: 'its headers are too large' });
    } else this.resolve({ kind: 'cut_off', reason, runner });
  }

  /** From here on a failure can only break the answer off: its status has been sent. */
  private begin(): Writable | undefined {
    const found = headersOfHandler(this.headers, this.http.mount);
    if ('fault' in found) {
      this.abandon({ kind: 'invalid', reason: found.fault });
      return undefined;
    }
    try {
      if (this.length === undefined) this.call.reservation?.add(PASSED_BYTES);
      this.stream = this.http.sink.begin(this.status, found.pairs);
    } catch (error) {
      this.abandon(error instanceof AppError ? { kind: 'no_room', error } : { kind: 'invalid', reason: UNSENDABLE });
      return undefined;
    }
    const { streams } = this.call;
    if (streams !== undefined) streams.answers += 1;
    this.stream.on('drain', () => this.goOn());
    this.expiresAt = Math.min(this.endsAt, performance.now() + this.http.idleMs);
    // Sooner than it was expected to end.
    this.connections.deadlines.add(this);
    return this.stream;
  }

  private keep(chunk: Buffer): void {
    this.keptBytes += chunk.length;
    this.kept.add(chunk);
    if (this.keptBytes <= PARSED_BYTES) return;
    this.abandon({ kind: 'answered', status: this.status, body: this.kept.take(), runner: this.runner });
  }

  /** What the body of a worker's own error would say, had an answer to HEAD one. */
  private errorOfHead(): Buffer | undefined {
    const code = this.headers['x-faas-error'];
    if (this.http.method !== 'HEAD' || typeof code !== 'string' || !ERROR_CODE.test(code)) return undefined;
    return Buffer.from(JSON.stringify({ error: { code } }));
  }

  private goOn(): void {
    const { controller } = this;
    if (this.settled || controller?.paused !== true) return;
    const now = performance.now();
    // The time of the caller is not the handler's.
    this.endsAt = now + this.leftMs;
    this.expiresAt = Math.min(this.endsAt, now + this.http.idleMs);
    this.connections.deadlines.add(this);
    controller.resume();
  }

  private giveUp(reason: string): void {
    this.abandon(
      this.stream === undefined
        ? { kind: 'given_up', reason }
        : { kind: 'broken_off', reason, bytes: this.passedBytes },
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
    const { streams } = this.call;
    if (this.stream !== undefined && streams !== undefined) streams.answers -= 1;
    this.mayGoOn.resolve(false);
    this.connections.deadlines.delete(this);
    this.call.cancellation.onCancel(undefined);
    return true;
  }
}
