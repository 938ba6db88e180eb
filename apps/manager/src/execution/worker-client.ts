import type { FunctionId } from '#libs/orchestrator/workload.js';
import type { Dispatcher } from 'undici';
import type { Caller } from './caller.js';
import type { Connection, Connections } from './connections.js';
import type { Expiring } from './deadlines.js';

export interface WorkerCall {
  /** The function it is for: a worker that serves another refuses. */
  readonly functionId: FunctionId;
  readonly body: Buffer;
  readonly requestId: string;
  readonly timeoutMs: number;
  readonly caller: Caller;
  /** Takes down when the request was written and its answer began, in `performance.now()` milliseconds. */
  readonly moments?: { requestedAt: number; firstByteAt: number } | undefined;
}

export type WorkerAnswer =
  | { readonly kind: 'answered'; readonly status: number; readonly body: Buffer }
  /** Not a byte of the call left: sending it again is safe. */
  | { readonly kind: 'not_sent'; readonly reason: string; readonly error: Error }
  /** The connection ended after the call was sent and before the answer was whole. */
  | { readonly kind: 'cut_off'; readonly reason: string; readonly runner: string | undefined }
  | { readonly kind: 'timed_out' }
  | { readonly kind: 'cancelled' };

/** A worker may not make the manager hold more than this of one answer. */
const LARGEST_ANSWER_BYTES = 64 * 1024 * 1024;

/** Sends one call over a connection of the replica and waits for the whole answer. Never throws. */
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
          'content-type',
          'application/json',
          'x-faas-function',
          call.functionId,
          'x-request-id',
          call.requestId,
          'x-faas-timeout-ms',
          String(call.timeoutMs),
          ...connections.tokenHeader,
        ],
        body: call.body,
      },
      exchange,
    );
  });
}

class Exchange implements Dispatcher.DispatchHandler, Expiring {
  private controller: Dispatcher.DispatchController | undefined;
  private status = 0;
  private runner: string | undefined;
  private readonly chunks: Buffer[] = [];
  private size = 0;
  private settled = false;

  constructor(
    private readonly connections: Connections,
    private readonly connection: Connection,
    private readonly call: WorkerCall,
    readonly expiresAt: number,
    private readonly resolve: (answer: WorkerAnswer) => void,
  ) {
    connections.deadlines.add(this);
    const cancel = () => this.abandon({ kind: 'cancelled' });
    if (call.caller.left) queueMicrotask(cancel);
    else call.caller.whenLeaving(cancel);
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
    this.status = status;
    const { moments } = this.call;
    if (moments) moments.firstByteAt = performance.now();
    const runner = headers['x-faas-runner'];
    if (typeof runner === 'string') this.runner = runner;
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.size += chunk.length;
    if (this.size > LARGEST_ANSWER_BYTES) {
      this.abandon({ kind: 'cut_off', reason: `its answer passed ${LARGEST_ANSWER_BYTES} bytes`, runner: this.runner });
    } else this.chunks.push(chunk);
  }

  onResponseEnd(): void {
    if (!this.connections.accepts(this.runner)) {
      this.abandon({ kind: 'cut_off', reason: 'another worker has its address', runner: undefined });
      return;
    }
    if (!this.settle()) return;
    if (this.runner !== undefined) this.connections.heard(this.connection, this.runner, performance.now());
    this.connections.release(this.connection);
    const body = this.chunks.length === 1 ? (this.chunks[0] as Buffer) : Buffer.concat(this.chunks);
    this.resolve({ kind: 'answered', status: this.status, body });
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (!this.settle()) return;
    const { runner } = this.connection;
    this.connections.abandon(this.connection);
    const reason = error.message;
    this.resolve(
      this.controller === undefined ? { kind: 'not_sent', reason, error } : { kind: 'cut_off', reason, runner },
    );
  }

  private abandon(answer: WorkerAnswer): void {
    if (!this.settle()) return;
    this.controller?.abort(new Error('The manager gave the call up.'));
    this.connections.abandon(this.connection);
    this.resolve(answer);
  }

  private settle(): boolean {
    if (this.settled) return false;
    this.settled = true;
    this.connections.deadlines.delete(this);
    this.call.caller.whenLeaving(undefined);
    return true;
  }
}
