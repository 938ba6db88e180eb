import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { isIdle, newestResponse, requestsOf } from './newest-response.js';

/** How many requests of one connection run at once. Further ones wait, and nothing more is read. */
const MOST_UNANSWERED = 8;
/** A client that reads slower than this runs out of time. */
const SLOWEST_BYTES_PER_MS = 16;
/**
 * Of what may come between two requests: the beginning of the next one, and line ends, which Node skips without end.
 */
const MOST_BYTES_BETWEEN = 64 * 1024;

/** How many pipelined requests of all connections wait. */
export interface WaitingRequests {
  count: number;
}

const UNCOUNTED = Symbol('uncounted');
type Answer = ServerResponse & { [UNCOUNTED]?: boolean };
/** Only the handle tells how much of a large write the kernel has taken. */
type WithHandle = Socket & { readonly _handle?: { readonly bytesWritten: number; readonly writeQueueSize: number } };

/** Marks an answer that has no memory reservation, so that the server counts its unsent bytes. */
export function noteUncounted(response: ServerResponse, isUncounted: boolean): void {
  (response as Answer)[UNCOUNTED] = isUncounted;
}

/** One client's connection: its pipelined requests, and how fast it reads. */
export class ClientConnection {
  /** Requests that run, in order; empty while they come one by one. */
  private readonly open = new Set<ServerResponse>();
  private readonly waiting: { readonly response: ServerResponse; readonly listener: RequestListener }[] = [];
  private readTimeLeftMs: number;
  private drainedBytes = 0;
  /**
   * A request whose time limit passed while reading was paused: how many had arrived, and the last one if incomplete.
   */
  private excused: { readonly requests: number; readonly unread: WeakRef<IncomingMessage> | undefined } | undefined;
  private resumedAt = 0;
  private idleSince: { readonly requests: number; readonly bytesRead: number } | undefined;

  constructor(
    private readonly socket: Socket,
    private readonly readTimeoutMs: number,
    private readonly allWaiting: WaitingRequests,
  ) {
    this.readTimeLeftMs = readTimeoutMs;
  }

  /** Takes a request that arrived before `previous` was answered. */
  admit(previous: ServerResponse, response: ServerResponse, listener: RequestListener): void {
    if (this.open.size === 0) this.track(previous);
    if (this.waiting.length === 0 && this.open.size < MOST_UNANSWERED) {
      this.track(response);
      listener(response.req, response);
      return;
    }
    // Reading the body of an earlier request resumes the socket.
    if (this.waiting.length === 0) this.socket.pause().on('resume', this.pauseAgain);
    this.waiting.push({ response, listener });
    this.allWaiting.count += 1;
  }

  forgetWaiting(): void {
    this.allWaiting.count -= this.waiting.length;
    this.waiting.length = 0;
  }

  excuse(): boolean {
    if (this.waiting.length === 0) return false;
    const newest = newestResponse(this.socket)?.req;
    // Its reader keeps it while it is incomplete.
    const unread = newest?.complete === false ? new WeakRef(newest) : undefined;
    this.excused = { requests: requestsOf(this.socket), unread };
    return true;
  }

  /** Whether an excused request is still incomplete after another time limit. */
  isOverdue(now: number): boolean {
    if (this.excused === undefined || this.waiting.length > 0 || now - this.resumedAt < this.readTimeoutMs)
      return false;
    const { requests, unread } = this.excused;
    this.excused = undefined;
    const isWhole = unread !== undefined && unread.deref()?.complete !== false;
    return requestsOf(this.socket) === requests && !isWhole;
  }

  /** False when the client has left an answer unread for too long. Called regularly. */
  drains(elapsedMs: number): boolean {
    const { socket } = this;
    if (socket.writableLength === 0) {
      this.drainedBytes = socket.bytesWritten;
      this.readTimeLeftMs = this.readTimeoutMs;
      return true;
    }
    const handle = (socket as WithHandle)._handle;
    const drained = handle ? handle.bytesWritten - handle.writeQueueSize : socket.bytesWritten - socket.writableLength;
    const gainedMs = (drained - this.drainedBytes) / SLOWEST_BYTES_PER_MS;
    this.drainedBytes = drained;
    this.readTimeLeftMs = Math.min(this.readTimeoutMs, this.readTimeLeftMs + gainedMs) - elapsedMs;
    return this.readTimeLeftMs > 0;
  }

  /** Whether more has come since the last request than the next one can begin with. Asked regularly. */
  isNoisy(): boolean {
    const { socket } = this;
    const requests = requestsOf(socket);
    if (!isIdle(socket)) this.idleSince = undefined;
    else if (this.idleSince?.requests !== requests) this.idleSince = { requests, bytesRead: socket.bytesRead };
    return this.idleSince !== undefined && socket.bytesRead - this.idleSince.bytesRead > MOST_BYTES_BETWEEN;
  }

  /** The unsent bytes of answers without a memory reservation. */
  get uncountedBytes(): number {
    const { socket, open } = this;
    let bytes = 0;
    for (const response of open) if ((response as Answer)[UNCOUNTED]) bytes += response.writableLength;
    if (open.size > 0 || socket.writableLength === 0) return bytes;
    const newest: Answer | undefined = newestResponse(socket);
    return newest?.[UNCOUNTED] ? socket.writableLength : 0;
  }

  private track(response: ServerResponse): void {
    this.open.add(response);
    response.once('close', () => {
      this.open.delete(response);
      // Nothing can be sent after an answer that broke off.
      if (response.writableFinished) this.goOn();
      else this.socket.destroy();
    });
  }

  private goOn(): void {
    const { socket, waiting } = this;
    if (waiting.length === 0) return;
    // Nothing is answered after an answer that closes the connection.
    while (this.open.size < MOST_UNANSWERED && socket.writable) {
      const next = waiting.shift();
      if (next === undefined) break;
      const { response, listener } = next;
      this.allWaiting.count -= 1;
      this.track(response);
      listener(response.req, response);
    }
    if (waiting.length > 0) return;
    this.resumedAt = performance.now();
    socket.off('resume', this.pauseAgain).resume();
  }

  private readonly pauseAgain = (): void => {
    this.socket.pause();
  };
}
