import type { RequestListener, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { MemoryBudget } from '../memory/memory-budget.js';
import { ClientConnection, type WaitingRequests } from './client-connection.js';
import { newestResponse, noteResponse } from './newest-response.js';

/** How long a client may leave an answer unread. Reading gives it time back, up to this much. */
const READ_TIMEOUT_MS = 30_000;
const CHECK_MS = 1_000;
/** The memory of a pipelined request that waits. */
const WAITING_BYTES = 2 * 1024;
/** The parts of the memory budget for pipelined requests that wait, and for answers without a reservation. */
const WAITING_SHARE = 1 / 8;
const UNSENT_SHARE = 1 / 4;

/**
 * The connections of a server's clients, with limits for what they make it keep and for how long. Node by itself reads
 * every pipelined request that has arrived, keeps all answers until they can be sent in order, and waits for ever for a
 * client that doesn't read.
 */
export class ClientConnections {
  private readonly all = new Map<Socket, ClientConnection>();
  private readonly waiting: WaitingRequests = { count: 0 };

  constructor(
    server: Server,
    private readonly memory: MemoryBudget,
    readTimeoutMs = READ_TIMEOUT_MS,
  ) {
    server.on('connection', (socket: Socket) => {
      const connection = new ClientConnection(socket, readTimeoutMs, this.waiting);
      this.all.set(socket, connection);
      socket.once('close', () => {
        this.all.delete(socket);
        connection.forgetWaiting();
      });
    });
    let last = performance.now();
    const check = () => {
      const now = performance.now();
      this.check(now, now - last);
      last = now;
    };
    const checking = setInterval(check, Math.min(CHECK_MS, readTimeoutMs / 4)).unref();
    server.once('close', () => clearInterval(checking));
  }

  /** Runs a request now, or after earlier ones of its connection; never after the connection has ended. */
  admit(response: ServerResponse, listener: RequestListener): void {
    const { socket } = response.req;
    const previous = newestResponse(socket);
    noteResponse(response);
    if (previous === undefined || previous.writableFinished) listener(response.req, response);
    else if (!socket.destroyed) {
      this.all.get(socket)?.admit(previous, response, listener);
      if (this.waiting.count * WAITING_BYTES > this.memory.limitBytes * WAITING_SHARE) socket.resetAndDestroy();
    }
  }

  /** Whether the manager itself has stopped reading the request. Its time limit then begins again when it reads on. */
  excuses(socket: Socket): boolean {
    return this.all.get(socket)?.excuse() ?? false;
  }

  private check(now: number, elapsedMs: number): void {
    let unsent = 0;
    const holders: { readonly socket: Socket; readonly bytes: number }[] = [];
    for (const [socket, connection] of this.all) {
      if (connection.isOverdue(now) || connection.isNoisy() || !connection.drains(elapsedMs)) {
        socket.resetAndDestroy();
        continue;
      }
      const bytes = connection.uncountedBytes;
      if (bytes === 0) continue;
      unsent += bytes;
      holders.push({ socket, bytes });
    }
    const most = this.memory.limitBytes * UNSENT_SHARE;
    for (const { socket, bytes } of unsent > most ? holders.toSorted((one, other) => other.bytes - one.bytes) : []) {
      if (unsent <= most) break;
      socket.resetAndDestroy();
      unsent -= bytes;
    }
    this.memory.noteUnsent(unsent + this.waiting.count * WAITING_BYTES);
  }
}
