import type { RequestListener, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { MemoryBudget } from '../memory/memory-budget.js';
import { ClientConnection, type Tally } from './client-connection.js';
import { newestResponse, noteResponse } from './newest-response.js';

/** How long a client may leave unread what is sent to it. Reading gives it time back, up to as much. */
const PATIENCE_MS = 30_000;
const LOOK_MS = 1_000;
/** What a request costs that was read together with those before it, and waits. */
const WAITING_BYTES = 2 * 1024;
/** What of all held bytes waiting requests, and answers that nobody else counts, may take. */
const WAITING_SHARE = 1 / 8;
const UNSENT_SHARE = 1 / 4;

/**
 * The clients' connections of a server, with what they may make it hold and how long. Node by itself reads everything
 * of a pipeline that has arrived, holds all answers until they can be sent in their order, and waits for ever for a
 * client that doesn't read.
 */
export class ClientConnections {
  private readonly all = new Map<Socket, ClientConnection>();
  private readonly waiting: Tally = { count: 0 };

  constructor(
    server: Server,
    private readonly memory: MemoryBudget,
    patienceMs = PATIENCE_MS,
  ) {
    server.on('connection', (socket: Socket) => {
      const connection = new ClientConnection(socket, patienceMs, this.waiting);
      this.all.set(socket, connection);
      socket.once('close', () => {
        this.all.delete(socket);
        connection.forgetWaiting();
      });
    });
    let last = performance.now();
    const look = () => {
      const now = performance.now();
      this.look(now, now - last);
      last = now;
    };
    const looking = setInterval(look, Math.min(LOOK_MS, patienceMs / 4)).unref();
    server.once('close', () => clearInterval(looking));
  }

  /** Runs a request now, or when others of its connection have been answered; never once the connection is gone. */
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

  /** Whether it is our doing that the rest of a request hasn't been read. It gets its time again once it is. */
  excuses(socket: Socket): boolean {
    return this.all.get(socket)?.excuse() ?? false;
  }

  private look(now: number, elapsedMs: number): void {
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
