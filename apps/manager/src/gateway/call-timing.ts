import type { FunctionId } from '#libs/orchestrator/workload.js';

/** Where one call spends its time. Moments are `performance.now()` milliseconds. */
export class CallTiming {
  readonly startedAt = performance.now();
  /** Undefined until it is known to exist. */
  functionId: FunctionId | undefined;
  /** No replica was there when it came. */
  isCold = false;
  /** A worker ran it to its end. */
  isAnswered = false;
  /** Its last request to a worker: taken up, written to the socket, first byte back. */
  sentAt = 0;
  requestedAt = 0;
  firstByteAt = 0;
  private receivingMs = 0;
  private waitingSince = 0;
  private waitedMs = 0;
  private workingMs = 0;

  /** Its body is there. */
  received(now: number): void {
    this.receivingMs = now - this.startedAt;
  }

  waits(now: number): void {
    this.waitingSince = now;
  }

  /** It has a slot, and goes to a worker. */
  sends(now: number): void {
    this.waitedMs += now - this.waitingSince;
    this.waitingSince = 0;
    this.sentAt = now;
  }

  /** The worker is done with it, or it with the worker. Answers how long that took. */
  returns(now: number): number {
    const took = now - this.sentAt;
    this.workingMs += took;
    return took;
  }

  queueMs(now: number): number {
    return this.waitingSince === 0 ? this.waitedMs : this.waitedMs + now - this.waitingSince;
  }

  /** The manager's own time: the rest when client, queue and worker have had theirs. */
  overheadMs(now: number): number {
    return Math.max(0, now - this.startedAt - this.receivingMs - this.queueMs(now) - this.workingMs);
  }

  /** The value of `Server-Timing`. */
  header(now: number): string {
    const queue = rounded(this.queueMs(now));
    return `queue;dur=${queue}, worker;dur=${rounded(this.workingMs)}, total;dur=${rounded(now - this.startedAt)}`;
  }
}

function rounded(ms: number): number {
  return Math.round(ms * 100) / 100;
}
