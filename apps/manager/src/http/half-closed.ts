import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { newestResponse } from './newest-response.js';

/** When to test whether a client that has closed its sending side still listens, in milliseconds after that. */
const TEST_AFTER_MS = [0, 100, 1_000];

/**
 * Answers clients that close their sending side after their request (`nc -N`, `shutdown`), and still notices clients
 * that are gone: in TCP both look the same until something is sent. So an interim answer is sent, which every HTTP/1.1
 * client skips and a closed connection refuses. HTTP/1.0 has no interim answers: there the call goes on to its end.
 */
export function serveHalfClosed(server: Server): void {
  // Without this Node ends the connection as soon as the client has ended its side.
  (server as Server & { httpAllowHalfOpen: boolean }).httpAllowHalfOpen = true;
  server.on('connection', (socket: Socket) => {
    socket.once('end', () => {
      for (const ms of TEST_AFTER_MS) setTimeout(() => testConnection(socket), ms).unref();
    });
  });
}

function testConnection(socket: Socket): void {
  const response = newestResponse(socket);
  if (response === undefined || socket.destroyed || response.headersSent || response.destroyed) return;
  // Earlier requests of this connection aren't answered yet.
  if (response.socket === null) return;
  const { complete, httpVersionMajor, httpVersionMinor } = response.req;
  if (complete && httpVersionMajor === 1 && httpVersionMinor >= 1) response.writeProcessing();
}
