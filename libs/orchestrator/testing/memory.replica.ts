import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type PlainLine, timeAt } from '../replica-log.js';
import type { EndpointAddress, FunctionId, Workload, WorkloadFault } from '../workload.js';
import type { CallAnswer } from './call.js';

export type MemoryReplicaState = 'starting' | 'ready' | 'draining' | 'ended';

/** Called when a replica became ready, or ended: `undefined` when it was told to, else why. */
export interface MemoryReplicaListener {
  ready(replica: MemoryReplica): void;
  ended(replica: MemoryReplica, fault: WorkloadFault | undefined): void;
}

/** One worker that lives in this process: loads, answers calls, drains and ends like a real one. */
export class MemoryReplica {
  state: MemoryReplicaState = 'starting';
  address: EndpointAddress;
  readonly lines: PlainLine[] = [];
  readonly ended: Promise<void>;
  private readonly cut = new AbortController();
  private readonly memory = new Map<string, unknown>();
  private readonly timers = new Set<NodeJS.Timeout>();
  private inFlight = 0;
  private server: Server | undefined;
  private settleEnded: () => void = () => undefined;

  constructor(
    readonly id: string,
    readonly owner: string,
    readonly functionId: FunctionId,
    readonly hash: string,
    private readonly workload: Workload,
    private readonly behaviour: MemoryBehaviour,
    private readonly listener: MemoryReplicaListener,
    port: number,
  ) {
    this.address = { kind: 'tcp', host: '127.0.0.1', port };
    this.ended = new Promise((resolve) => (this.settleEnded = resolve));
  }

  /** Begins to load; with `serve` the replica listens on a port of loopback once it has. */
  start(serve: boolean): void {
    const load = () => {
      const { notLoadable } = this.behaviour;
      if (this.state !== 'starting') return;
      if (notLoadable !== undefined) {
        this.end({ ...notLoadable, code: 'handler_not_loadable', terminal: true, at: new Date() });
      } else if (serve) this.listen();
      else this.becomeReady();
    };
    if (this.behaviour.loadMs === undefined) setImmediate(load);
    else this.after(this.behaviour.loadMs, load);
  }

  /** What `POST /` with this payload answers. Rejects when the replica is gone, or goes meanwhile. */
  async call(payload: string): Promise<CallAnswer> {
    if (this.state === 'draining') return { status: 503, body: failure('worker_draining', 'The worker is draining.') };
    if (this.state !== 'ready') throw new Error(`Replica ${this.id} refuses the connection.`);
    this.inFlight += 1;
    try {
      return { status: 200, body: { result: await this.runHandler(payload) } };
    } catch (error) {
      if (this.cut.signal.aborted) throw new Error(`Replica ${this.id} cut the connection.`, { cause: error });
      const message = `Error executing handler function: ${String(error)}`;
      return { status: 400, body: failure('handler_error', message) };
    } finally {
      this.inFlight -= 1;
      this.endWhenDrained();
    }
  }

  /** No new calls; ends once those in flight have, or after `graceMs`. */
  drain(graceMs: number): void {
    if (this.state === 'ended') return;
    this.state = 'draining';
    this.after(graceMs, () => this.end(undefined));
    this.endWhenDrained();
  }

  end(fault: WorkloadFault | undefined): void {
    if (this.state === 'ended') return;
    this.state = 'ended';
    this.cut.abort();
    for (const timer of this.timers) clearTimeout(timer);
    this.server?.close();
    // A drained replica's last answer is still on its way out; only a cut one closes the sockets under its calls.
    if (this.inFlight === 0) this.server?.closeIdleConnections();
    else this.server?.closeAllConnections();
    this.settleEnded();
    this.listener.ended(this, fault);
  }

  private endWhenDrained(): void {
    if (this.state === 'draining' && this.inFlight === 0) this.end(undefined);
  }

  private async runHandler(payload: string): Promise<unknown> {
    const call = {
      // No two lines of a replica have the same time.
      print: (text: string) =>
        void this.lines.push({ time: timeAt(new Date(), this.lines.length), stream: 'stdout', text }),
      signal: this.cut.signal,
      memory: this.memory,
    };
    const cut = new Promise<never>((_, reject) => {
      this.cut.signal.addEventListener('abort', () => reject(new Error('cut')), { once: true });
    });
    return Promise.race([this.behaviour.call(payload, call), cut]);
  }

  private becomeReady(): void {
    if (this.state !== 'starting') return;
    this.state = 'ready';
    this.listener.ready(this);
  }

  private listen(): void {
    const server = createServer((request, response) => void this.serve(request, response));
    this.server = server;
    server.listen(0, '127.0.0.1', () => {
      this.address = { kind: 'tcp', host: '127.0.0.1', port: (server.address() as AddressInfo).port };
      this.becomeReady();
    });
    server.unref();
  }

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      if (request.method === 'GET') {
        return answer(response, { status: 200, body: { status: 'ok', timestamp: new Date().toISOString() } });
      }
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const { payload } = JSON.parse(Buffer.concat(chunks).toString('utf8')) as { payload?: unknown };
      if (typeof payload !== 'string') return answer(response, { status: 422, body: { detail: 'payload is missing' } });
      answer(response, await this.call(payload));
    } catch {
      response.destroy();
    }
  }

  private after(ms: number, act: () => void): void {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      act();
    }, ms);
    timer.unref();
    this.timers.add(timer);
  }

  /** The revision this replica was made from. */
  get revision(): number {
    return this.workload.revision;
  }
}

function failure(code: string, detail: string): object {
  return { detail, error: { code, type: 'Error', message: detail, traceback: '' } };
}

function answer(response: ServerResponse, { status, body }: CallAnswer): void {
  response.writeHead(status, { 'Content-Type': 'application/json', Connection: 'close' });
  response.end(JSON.stringify(body));
}

/** How a replica in memory plays a handler file. */
export interface MemoryBehaviour {
  /** The file can't be loaded: its replicas end with this. */
  readonly notLoadable?: Pick<WorkloadFault, 'message' | 'detail' | 'line'>;
  /** Milliseconds from start to readiness; without it, the next turn of the event loop. */
  readonly loadMs?: number;
  /** The handler. What it prints goes to the replica's log; it should settle when `signal` aborts. */
  call(payload: string, call: MemoryCall): unknown;
}

interface MemoryCall {
  readonly print: (line: string) => void;
  readonly signal: AbortSignal;
  /** Shared by the calls of one replica, as a module's globals are. */
  readonly memory: Map<string, unknown>;
}

export const ECHO: MemoryBehaviour = { call: (payload) => payload };
