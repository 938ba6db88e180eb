import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { newestResponse } from './newest-response.js';

/** When a client that has closed its sending side is asked whether it still listens, in milliseconds from then. */
const ASK_AFTER_MS = [0, 100, 1_000];

/**
 * Answers clients that close their sending side once their request is sent (`nc -N`, `shutdown`), and goes on noticing
 * those that are gone: TCP tells of both in the same way until something is sent. So they are sent an interim answer,
 * which every client of HTTP/1.1 skips and a connection that is gone refuses. HTTP/1.0 knows none: there the call goes
 * on to its end.
 */
export function serveHalfClosed(server: Server): void {
  // Without it Node ends the connection as soon as the client has ended its side.
  (server as Server & { httpAllowHalfOpen: boolean }).httpAllowHalfOpen = true;
  server.on('connection', (socket: Socket) => {
    socket.once('end', () => {
      for (const ms of ASK_AFTER_MS) setTimeout(() => askWhetherItListens(socket), ms).unref();
    });
  });
}

function askWhetherItListens(socket: Socket): void {
  const response = newestResponse(socket);
  if (response === undefined || socket.destroyed || response.headersSent || response.destroyed) return;
  // Others are to be answered on this connection before it.
  if (response.socket === null) return;
  const { complete, httpVersionMajor, httpVersionMinor } = response.req;
  if (complete && httpVersionMajor === 1 && httpVersionMinor >= 1) response.writeProcessing();
}
