import { type IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { newestResponse } from './newest-response.js';

const KEY = /^[A-Za-z0-9+/]{22}==$/;
const VERSION = '13';
/** How long a client has to read why its WebSocket was refused. */
const LINGER_MS = 1_000;
const SOCKET = Symbol('upgrade');

type Upgraded = IncomingMessage & { [SOCKET]?: Upgrade };

/** A connection whose client asks to go on with a WebSocket, and waits for the answer. */
export class Upgrade {
  private isTaken = false;

  constructor(
    private readonly socket: Socket,
    private readonly response: ServerResponse,
  ) {
    // Nobody else listens to it any more.
    socket.setTimeout(0);
    socket.on('error', () => socket.destroy());
    socket.on('end', this.leave).on('data', this.leave).on('drain', this.drain);
  }

  /** Its socket, once nothing but the WebSocket's frames goes over it. */
  take(): Socket {
    const { socket } = this;
    this.isTaken = true;
    return socket.off('end', this.leave).off('data', this.leave).off('drain', this.drain);
  }

  /** Ends the connection after an answer that is none to a WebSocket. */
  end(): void {
    if (this.isTaken) return;
    const { socket } = this;
    socket.off('end', this.leave).off('data', this.leave).resume().end();
    setTimeout(() => socket.destroy(), LINGER_MS).unref();
  }

  /** Who may send nothing before the answer (RFC 6455, 4.1) and does it could mean it for somebody else. */
  private readonly leave = (): void => {
    this.socket.destroy();
  };

  private readonly drain = (): void => {
    this.response.emit('drain');
  };
}

/** The connection of a request that is answered by its upgrade; undefined: a request like all others. */
export function upgradeOf(request: IncomingMessage): Upgrade | undefined {
  return (request as Upgraded)[SOCKET];
}

/** A response for a request that Node has taken for an upgrade, so that it goes the way of all requests. */
export function responseToUpgrade(request: IncomingMessage, socket: Socket, head: Buffer): ServerResponse | undefined {
  if (head.length > 0) {
    socket.destroy();
    return undefined;
  }
  // It has no body.
  request.complete = true;
  const response = new ServerResponse(request);
  const upgrade = new Upgrade(socket, response);
  (request as Upgraded)[SOCKET] = upgrade;
  response.shouldKeepAlive = false;
  response.assignSocket(socket);
  response.once('finish', () => upgrade.end());
  return response;
}

/** Whether somebody wants a WebSocket, be it by a request that is right or by one that isn't. */
export function asksForWebSocket({ headers: { upgrade } }: IncomingMessage): boolean {
  return upgrade?.toLowerCase().includes('websocket') === true;
}

/**
 * Whether a request may be answered with a WebSocket (RFC 6455, 4.2.1). Of one that has a body, or comes before others
 * are answered, two readers could disagree on what is a frame.
 */
export function isHandshake({ method, httpVersion, headers, socket }: IncomingMessage): boolean {
  const { connection = '', upgrade = '', 'sec-websocket-key': key = '', 'sec-websocket-version': version } = headers;
  return (
    method === 'GET' &&
    httpVersion === '1.1' &&
    upgrade.toLowerCase() === 'websocket' &&
    /(?:^|,)\s*upgrade\s*(?:,|$)/i.test(connection) &&
    // What it names there would not reach the worker.
    !/sec-websocket-/i.test(connection) &&
    KEY.test(key) &&
    version === VERSION &&
    headers['content-length'] === undefined &&
    headers['transfer-encoding'] === undefined &&
    newestResponse(socket) === undefined
  );
}
