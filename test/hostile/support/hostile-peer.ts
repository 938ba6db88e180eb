import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { EndpointAddress } from '#libs/orchestrator/workload.js';

/** How a peer answers whoever connects. */
export const ATTACKS = {
  'switches protocols': (socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: nothing\r\n\r\n');
  },
  'sends interim answers without end': (socket) => flood(socket, 'HTTP/1.1 103 Early Hints\r\n\r\n'),
  'sends a thousand hints and the answer then': (socket) => {
    socket.write('HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(1_000));
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"status":"ok"}');
  },
  'says to continue without end': (socket) => flood(socket, 'HTTP/1.1 100 Continue\r\n\r\n'),
  'sends garbage': (socket) => flood(socket, '\0\u0001garbage\u007f'),
  'sends empty lines without end': (socket) => flood(socket, '\r\n'),
  'sends headers without end': (socket) => flood(socket, 'X-More: more\r\n', 'HTTP/1.1 200 OK\r\n'),
  'sends a body without end': (socket) => flood(socket, 'x'.repeat(1_000), 'HTTP/1.1 200 OK\r\n\r\n'),
  'sends small chunks without end': (socket) =>
    flood(socket, '1\r\nx\r\n', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'),
  'sends one byte a second': (socket) => trickle(socket, 'HTTP/1.1 200 OK\r\nX-Slow: '),
  'sends one byte of the body a second': (socket) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n');
    trickle(socket, ' '.repeat(1_000));
  },
  'promises more than it sends': (socket) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"status":"ok"}');
  },
  'says nothing': () => undefined,
  'hangs up': (socket) => socket.destroy(),
  'resets the connection': (socket) => socket.resetAndDestroy(),
} as const satisfies Record<string, (socket: Socket) => unknown>;

export type Attack = keyof typeof ATTACKS;

/** As one of the pool does, for as long as it is asked. */
const WAITING = JSON.stringify({ status: 'generic' });
const BEHAVIOURS: Readonly<Record<Behaviour, (socket: Socket) => unknown>> = {
  ...ATTACKS,
  'waits for a function': (socket) =>
    socket.end(`HTTP/1.1 503 Service Unavailable\r\nContent-Length: ${WAITING.length}\r\n\r\n${WAITING}`),
};

export type Behaviour = Attack | 'waits for a function';

export const EVERY_ATTACK = Object.keys(ATTACKS) as Attack[];

/** Written again and again, as fast as it is read. */
function flood(socket: Socket, text: string, first = ''): void {
  socket.write(first);
  const block = text.repeat(Math.ceil(16_384 / text.length));
  const more = () => {
    // Now and then the others of this process have their turn.
    for (let count = 0; count < 16; count += 1) {
      if (socket.destroyed) return;
      if (!socket.write(block)) return void socket.once('drain', more);
    }
    setImmediate(more);
  };
  more();
}

function trickle(socket: Socket, text: string): void {
  let sent = 0;
  const timer = setInterval(() => socket.write(text[sent++] ?? ' '), 1_000);
  socket.write(text[sent++] ?? '');
  socket.once('close', () => clearInterval(timer));
}

/** Listens where a worker should, and answers as it is told to. */
export class HostilePeer implements AsyncDisposable {
  /** How it answers who connects from now on. */
  behaviour: Behaviour;
  /** The same for calls of functions; unset: as all others. */
  behaviourInCalls: Behaviour | undefined;
  private readonly open = new Set<Socket>();
  private connections = 0;

  private constructor(
    private readonly server: Server,
    behaviour: Behaviour,
  ) {
    this.behaviour = behaviour;
    server.on('connection', (socket: Socket) => {
      this.connections += 1;
      this.open.add(socket);
      socket.on('close', () => this.open.delete(socket)).on('error', () => undefined);
      socket.on('end', () => socket.destroy());
      // Reads all that it is sent, and answers when it has heard something, as who speaks HTTP does.
      socket.once('data', (head: Buffer) => {
        const isCall = head.toString('latin1').startsWith('POST / ');
        BEHAVIOURS[(isCall ? this.behaviourInCalls : undefined) ?? this.behaviour](socket);
      });
    });
  }

  /** @param path of a UNIX socket; unset: a port of this machine */
  static async listen(behaviour: Behaviour, path?: string): Promise<HostilePeer> {
    const server = createServer();
    if (path === undefined) server.listen(0, '127.0.0.1');
    else server.listen(path);
    await once(server, 'listening');
    return new HostilePeer(server, behaviour);
  }

  get address(): EndpointAddress {
    const bound = this.server.address() as AddressInfo | string;
    return typeof bound === 'string'
      ? { kind: 'unix', path: bound }
      : { kind: 'tcp', host: '127.0.0.1', port: bound.port };
  }

  /** How often somebody has connected. */
  get asked(): number {
    return this.connections;
  }

  /** Connections that nobody has ended. */
  get connected(): number {
    return this.open.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.open) socket.destroy();
    this.server.close();
    await once(this.server, 'close');
  }
}
