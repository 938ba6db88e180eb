import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

const NEWEST = Symbol('newest response');

type Connection = Socket & { [NEWEST]?: ServerResponse };

/** Remembers a response as the newest of its connection: one store, where a set of open ones would cost every call more. */
export function noteResponse(response: ServerResponse): void {
  (response.req.socket as Connection)[NEWEST] = response;
}

/** The response to the last request that came over a connection, be it under way or not. */
export function newestResponse(socket: Socket): ServerResponse | undefined {
  return (socket as Connection)[NEWEST];
}
