import type { RequestListener, Server } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { newestResponse } from './newest-response.js';

/**
 * Counted in rounds of the event loop, not in milliseconds: a process that wasn't running in all that time has accepted
 * nothing. Node accepts about one waiting connection in a round.
 */
const ROUND_MS = 5;
const QUIET_ROUNDS = 6;
const MOST_ROUNDS = 400;
const IDLE_CHECK_MS = 50;

/**
 * Makes clients give up their connections before the server closes them: a request that is sent into a closing
 * connection is lost, and many clients don't repeat a POST. Every answer from the beginning on says "Connection:
 * close".
 */
export class GracefulShutdown {
  private readonly connections = new Set<Socket>();
  private hasBegun = false;
  private accepted = 0;

  /** The same listener, with its answers changed once the shutdown has begun. */
  wrap(listener: RequestListener): RequestListener {
    return (request, response): void => {
      if (this.hasBegun) response.setHeader('Connection', 'close');
      listener(request, response);
    };
  }

  /** Follows the connections of a server that doesn't listen yet. */
  watch(server: Server): void {
    server.on('connection', (socket: Socket) => {
      this.accepted += 1;
      this.connections.add(socket);
      socket.once('close', () => this.connections.delete(socket));
    });
  }

  begin(): void {
    this.hasBegun = true;
    for (const socket of this.connections) {
      const response = newestResponse(socket);
      if (response !== undefined && !response.headersSent) response.setHeader('Connection', 'close');
    }
  }

  /**
   * Resolves once no connection has come for a moment, after two seconds of a running process at the latest. Closing
   * the server resets the connections that wait to be accepted, with the requests that were sent over them.
   */
  async lastConnections(): Promise<void> {
    let quiet = 0;
    for (let round = 0; round < MOST_ROUNDS && quiet < QUIET_ROUNDS; round += 1) {
      const before = this.accepted;
      await delay(ROUND_MS);
      quiet = this.accepted === before ? quiet + 1 : 0;
    }
  }

  /** Closes the server: connections when their calls are answered, at the latest after `timeoutMs`. */
  async drain(server: Server, timeoutMs: number): Promise<void> {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeIdleConnections();
    const idle = setInterval(() => server.closeIdleConnections(), IDLE_CHECK_MS);
    await Promise.race([closed, delay(timeoutMs, undefined, { ref: false })]);
    clearInterval(idle);
    server.closeAllConnections();
    // Those that were upgraded aren't among them.
    for (const socket of this.connections) socket.destroy();
    await closed;
  }
}
