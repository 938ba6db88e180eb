import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

const NEWEST = Symbol('newest response');
const ARRIVALS = Symbol('arrivals');
const UNREAD = Symbol('unread request');

interface Connection extends Socket {
  [NEWEST]?: ServerResponse | undefined;
  [ARRIVALS]?: number;
  [UNREAD]?: WeakRef<IncomingMessage> | undefined;
}

/**
 * Remembers a response as the newest of its connection until it is closed. This is one property; a set of open
 * responses would cost every call more. An idle connection keeps nothing.
 */
export function noteResponse(response: ServerResponse): void {
  const connection = response.req.socket as Connection;
  connection[NEWEST] = response;
  connection[ARRIVALS] = requestsOf(connection) + 1;
  response.on('close', forget);
}

/** The response to a connection's last request; undefined: it has been answered. */
export function newestResponse(socket: Socket): ServerResponse | undefined {
  return (socket as Connection)[NEWEST];
}

/** How many requests a connection has brought. */
export function requestsOf(socket: Socket): number {
  return (socket as Connection)[ARRIVALS] ?? 0;
}

/** Whether all requests that came over a connection have been read whole and answered. */
export function isIdle(socket: Socket): boolean {
  // Whoever reads a request keeps it for as long as it isn't whole.
  return newestResponse(socket) === undefined && (socket as Connection)[UNREAD]?.deref()?.complete !== false;
}

/** One listener for all, so that no call needs a closure. */
function forget(this: ServerResponse): void {
  const connection = this.req.socket as Connection;
  if (connection[NEWEST] !== this) return;
  connection[NEWEST] = undefined;
  if (!this.req.complete) connection[UNREAD] = new WeakRef(this.req);
}
