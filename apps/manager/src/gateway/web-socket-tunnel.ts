import type { Duplex } from 'node:stream';
import { notePassed } from '../memory/passed-bytes.js';
import type { Cancellation } from './cancellation.js';
import type { Deadlines, Expiring } from './deadlines.js';
import { CLOSE, closeFrame, FrameTracker } from './web-socket-frames.js';
import type { WorkerAnswer } from './worker-client.js';

/** How long what was sent last has to arrive, and the other side to hang up. */
const LINGER_MS = 1_000;

export interface TunnelOptions {
  readonly deadlines: Deadlines;
  /** When it has to end, in `performance.now()` milliseconds. */
  readonly endsAt: number;
  /** How long nothing may come from either side. */
  readonly idleMs: number;
  readonly cancellation: Cancellation;
}

/** What comes from one side. */
interface Direction {
  readonly from: Duplex;
  readonly to: Duplex;
  readonly frames: FrameTracker;
  /** What has passed. */
  bytes: number;
}

/**
 * Passes the bytes of a WebSocket between a client and a worker, as fast as the slower of them reads. It keeps what is
 * in the buffers of the two sockets, and knows of frames only where they end, so that it can close in between.
 */
export class WebSocketTunnel implements Expiring {
  expiresAt: number;
  private readonly up: Direction;
  private readonly down: Direction;
  /** What is closed with once the frame under way has ended. */
  private closing: { readonly code: number; readonly reason: string } | undefined;
  private isOver = false;
  /** The application has closed by the code for that, and doesn't only send the client's own code back. */
  private hasFailed = false;

  constructor(
    private readonly client: Duplex,
    private readonly worker: Duplex,
    private readonly options: TunnelOptions,
    /** Called once, when nothing passes any more. */
    private readonly ended: (answer: WorkerAnswer) => void,
  ) {
    const { deadlines, endsAt, idleMs, cancellation } = options;
    this.expiresAt = Math.min(endsAt, performance.now() + idleMs);
    this.up = { from: client, to: worker, frames: new FrameTracker(), bytes: 0 };
    this.down = { from: worker, to: client, frames: new FrameTracker(), bytes: 0 };
    deadlines.add(this);
    for (const direction of [this.up, this.down]) {
      const { from, to } = direction;
      from.on('error', () => from.destroy());
      from.on('data', (chunk: Buffer) => this.pass(direction, chunk));
      to.on('drain', () => from.resume());
    }
    client.once('end', () => this.left()).once('close', () => this.left());
    worker.once('end', () => this.lost()).once('close', () => this.lost());
    const leave = () => this.left();
    if (cancellation.isCancelled || client.destroyed) queueMicrotask(leave);
    else cancellation.onCancel(leave);
  }

  /** What the client has sent. */
  get bytesUp(): number {
    return this.up.bytes;
  }

  /** What it was sent. */
  get bytesDown(): number {
    return this.down.bytes;
  }

  expire(): void {
    const { endsAt, idleMs } = this.options;
    const isIdle = this.expiresAt < endsAt;
    const answer: WorkerAnswer = { kind: 'timed_out', idleMs: isIdle ? idleMs : undefined };
    this.close(CLOSE.goingAway, isIdle ? 'Nothing came for too long.' : 'The time limit has passed.', answer);
  }

  /** Closes both sides, in between two frames where one ends soon. */
  close(code: number, reason: string, answer: WorkerAnswer = this.outcome()): void {
    if (this.isOver) return;
    this.closing = { code, reason };
    this.settle(answer);
    for (const direction of [this.up, this.down]) if (direction.frames.isBetween) this.closeAfter(direction);
  }

  private pass(direction: Direction, chunk: Buffer): void {
    const { from, to, frames } = direction;
    const isOpen = this.closing === undefined || !frames.isBetween;
    if (!isOpen || !to.writable) return;
    direction.bytes += chunk.length;
    notePassed(chunk.length);
    const end = frames.follow(chunk);
    if (frames.hasClosed) this.noteFailure();
    if (this.closing !== undefined) {
      if (!to.write(end === undefined ? chunk : chunk.subarray(0, end))) from.pause();
      if (end !== undefined) this.closeAfter(direction);
      return;
    }
    this.expiresAt = Math.min(this.options.endsAt, performance.now() + this.options.idleMs);
    if (!to.write(chunk)) from.pause();
  }

  /** Whoever is told a code sends it back: what counts is who said it first. */
  private noteFailure(): void {
    this.hasFailed ||= this.down.frames.closedWith === CLOSE.failed && this.up.frames.closedWith !== CLOSE.failed;
  }

  private outcome(): WorkerAnswer {
    return this.hasFailed ? { kind: 'failed' } : { kind: 'streamed', bytes: this.down.bytes };
  }

  private closeAfter({ from, to, frames }: Direction): void {
    // What follows is for nobody.
    from.resume();
    const { code, reason } = this.closing as { code: number; reason: string };
    if (!to.writable) return;
    if (frames.hasClosed) to.end();
    else to.end(closeFrame(code, reason, to === this.client ? 'client' : 'server'));
  }

  /** The client sends nothing more. */
  private left(): void {
    if (this.isOver) return;
    if (!this.up.frames.hasClosed && !this.down.frames.hasClosed) {
      this.settle({ kind: 'cancelled' });
      // Nobody could tell its application more than that.
      this.worker.destroy();
    } else this.settle(this.outcome());
    this.worker.end();
    this.client.end();
  }

  /** The worker sends nothing more: it has closed, or it has died. */
  private lost(): void {
    if (this.isOver) return;
    if (this.down.frames.hasClosed) {
      this.settle(this.outcome());
      this.client.end();
    } else {
      const reason = 'its worker has ended';
      this.close(CLOSE.failed, 'The worker has ended.', { kind: 'broken_off', reason, bytes: this.down.bytes });
    }
    this.worker.end();
  }

  private settle(answer: WorkerAnswer): void {
    this.isOver = true;
    const { deadlines, cancellation } = this.options;
    deadlines.delete(this);
    cancellation.onCancel(undefined);
    for (const socket of [this.client, this.worker]) this.linger(socket);
    this.ended(answer);
  }

  private linger(socket: Duplex): void {
    const patience = setTimeout(() => {
      const isBeingRead = socket === this.client && socket.writableEnded && !socket.writableFinished;
      // The HTTP server limits how long a client may take to read.
      if (isBeingRead) socket.once('finish', () => this.linger(socket));
      else socket.destroy();
    }, LINGER_MS);
    socket.once('close', () => clearTimeout(patience));
  }
}
