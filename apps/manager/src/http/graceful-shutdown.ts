import type { RequestListener, Server } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { newestResponse } from './newest-response.js';

/**
 * Turns, not milliseconds: a process that wasn't running in all that time has read nothing of what has arrived. Node
 * takes about one of those who wait at the door in a turn.
 */
const TURN_MS = 5;
const QUIET_TURNS = 6;
const MOST_TURNS = 400;

/**
 * Sends clients that keep their connections elsewhere before the connections are closed: a request that is sent into a
 * closing one is lost, and many clients don't repeat a POST. Every answer from the shutdown on says "Connection: close".
 */
export class GracefulShutdown {
  private readonly connections = new Set<Socket>();
  private said = false;
  private arrivals = 0;

  /** The same listener, with its answers changed from the shutdown on. */
  over(listener: RequestListener): RequestListener {
    return (request, response): void => {
      if (this.said) response.setHeader('Connection', 'close');
      listener(request, response);
    };
  }

  /** Knows the connections of a server, from their beginning. */
  watch(server: Server): void {
    server.on('connection', (socket: Socket) => {
      this.arrivals += 1;
      this.connections.add(socket);
      socket.once('close', () => this.connections.delete(socket));
    });
  }

  say(): void {
    this.said = true;
    for (const socket of this.connections) {
      const response = newestResponse(socket);
      if (response !== undefined && !response.headersSent) response.setHeader('Connection', 'close');
    }
  }

  /**
   * Resolves once nobody has come for a moment, at most two seconds of a running process: closing the door resets those
   * who wait at it, with what they have sent.
   */
  async lastArrivals(): Promise<void> {
    let quiet = 0;
    for (let turn = 0; turn < MOST_TURNS && quiet < QUIET_TURNS; turn += 1) {
      const before = this.arrivals;
      await delay(TURN_MS);
      quiet = this.arrivals === before ? quiet + 1 : 0;
    }
  }
}
