import { join } from 'node:path';
import pgConnectionString from 'pg-connection-string';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/**
 * Stands before a database. After so many pieces that its clients have sent it cuts all connections, and refuses others
 * for a while.
 */
export class CutRelay {
  private readonly sockets = new Set<Socket>();
  private server: Server;
  private port = 0;
  private isOpen = true;
  /** Pieces that clients have sent. */
  sent = 0;

  private constructor(
    private readonly target: string,
    private readonly cutAfter: number,
    private readonly refuseMs: number,
  ) {
    this.server = createServer((socket) => this.relay(socket));
  }

  static async open(url: string, cutAfter: number, refuseMs: number): Promise<CutRelay> {
    const relay = new CutRelay(url, cutAfter, refuseMs);
    await new Promise<void>((resolve) => relay.server.listen(0, '127.0.0.1', resolve));
    relay.port = (relay.server.address() as AddressInfo).port;
    return relay;
  }

  /** Of the database, through here. */
  get url(): string {
    const { user, password, database } = pgConnectionString.parse(this.target);
    return `postgres://${user}${password ? `:${password}` : ''}@127.0.0.1:${this.port}/${database}`;
  }

  close(): void {
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
  }

  private relay(client: Socket): void {
    this.keep(client);
    if (!this.isOpen) {
      client.destroy();
      return;
    }
    const server = this.keep(this.connect());
    client.pipe(server).pipe(client);
    client.on('data', () => this.count());
    client.on('close', () => server.destroy());
    server.on('close', () => client.destroy());
  }

  private connect(): Socket {
    const { host, port } = pgConnectionString.parse(this.target);
    if (host?.startsWith('/') === true) return connect(join(host, `.s.PGSQL.${port ?? 5432}`));
    return connect(Number(port ?? 5432), host ?? '127.0.0.1');
  }

  private count(): void {
    this.sent += 1;
    if (this.sent !== this.cutAfter) return;
    this.isOpen = false;
    for (const socket of this.sockets) socket.destroy();
    setTimeout(() => (this.isOpen = true), this.refuseMs);
  }

  private keep(socket: Socket): Socket {
    this.sockets.add(socket);
    return socket.on('error', () => undefined).on('close', () => this.sockets.delete(socket));
  }
}
