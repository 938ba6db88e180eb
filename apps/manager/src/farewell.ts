import type { RequestListener, Server } from 'node:http';
import type { Socket } from 'node:net';
import { newestResponse } from './newest-response.js';

/**
 * Sends clients that keep their connections elsewhere before the connections are closed: a request that is sent into a
 * closing one is lost, and many clients don't repeat a POST. Every answer from the farewell on says "Connection: close".
 */
export class Farewell {
  private readonly connections = new Set<Socket>();
  private said = false;

  /** The same listener, with its answers changed from the farewell on. */
  over(listener: RequestListener): RequestListener {
    return (request, response): void => {
      if (this.said) response.setHeader('Connection', 'close');
      listener(request, response);
    };
  }

  /** Knows the connections of a server, from their beginning. */
  watch(server: Server): void {
    server.on('connection', (socket: Socket) => {
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
}
