import type { FunctionId } from '#libs/orchestrator/workload.js';
import type { HistorySetting } from '../functions/dto/history-setting.dto.js';

/** What is noted of one call, and where it spends its time. Moments are `performance.now()` milliseconds. */
export class CallTiming {
  readonly startedAt = performance.now();
  /** The id that it is kept under; undefined: it isn't. */
  id: string | undefined;
  /** Undefined until the function is known to exist. */
  functionId: FunctionId | undefined;
  /** The revision that ran it, as far as it is known; 0: none did. */
  revision = 0;
  /** The revision that the function's divided traffic gave it; undefined: the traffic isn't divided. */
  dividedTo: number | undefined;
  /** The function that it is a call of, whether or not it is one that can run; undefined: it isn't known. */
  calledId: FunctionId | undefined;
  /** The revision that had the function's calls when this one came; 0: its function isn't known. */
  servedBy = 0;
  /** The replica that it was sent to last. */
  replica: string | undefined;
  /** What was sent to it, and what came back. */
  requestBytes = 0;
  answerBytes = 0;
  /** What a handler has answered to an HTTP call; 0: nothing, or it was no such call. */
  httpStatus = 0;
  /** The function had no replica when the call came. */
  isCold = false;
  /** A worker answered. */
  isAnswered = false;
  /** The last request to a worker: when it got its slot, was written to the socket, and got its first byte back. */
  sentAt = 0;
  requestedAt = 0;
  firstByteAt = 0;
  /** What its function wants kept of its calls. */
  keeps: HistorySetting | undefined;
  private receivingMs = 0;
  private waitingSince = 0;
  private waitedMs = 0;
  private workingSince = 0;
  private workedMs = 0;

  /** It was opened: how long it is kept open is up to those who talk. */
  get isWebSocket(): boolean {
    return this.httpStatus === 101;
  }

  /** The body is complete. */
  received(now: number): void {
    this.receivingMs = now - this.startedAt;
  }

  waits(now: number): void {
    this.waitingSince = now;
  }

  /** The call has a slot. */
  sends(now: number): void {
    this.waitedMs += now - this.waitingSince;
    this.waitingSince = 0;
    this.sentAt = now;
    this.workingSince = now;
  }

  /** The request to the worker is over. Returns how long it took. */
  returns(now: number): number {
    const took = now - this.sentAt;
    this.workedMs += took;
    this.workingSince = 0;
    return took;
  }

  /** No handler was called by the last request. */
  untried(): void {
    this.revision = 0;
    this.replica = undefined;
    this.sentAt = 0;
  }

  /** All requests to workers together. */
  get workerMs(): number {
    return this.workedMs;
  }

  queueMs(now: number): number {
    return this.waitingSince === 0 ? this.waitedMs : this.waitedMs + now - this.waitingSince;
  }

  /** The manager's own time: without receiving the body, waiting for a slot, and the worker. */
  overheadMs(now: number): number {
    return Math.max(0, now - this.startedAt - this.receivingMs - this.queueMs(now) - this.workerMs);
  }

  /** The value of `Server-Timing`, of a worker that still answers too. */
  header(now: number): string {
    const queue = rounded(this.queueMs(now));
    const working = this.workingSince === 0 ? this.workedMs : this.workedMs + now - this.workingSince;
    return `queue;dur=${queue}, worker;dur=${rounded(working)}, total;dur=${rounded(now - this.startedAt)}`;
  }
}

function rounded(ms: number): number {
  return Math.round(ms * 100) / 100;
}
