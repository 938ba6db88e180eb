import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

const PORT = 8081;

/** What a Service before the managers' port for layers is: one address, and whichever of them takes the connection. */
export class LayersService {
  private readonly backends: string[] = [];
  private readonly sockets = new Set<Socket>();

  private constructor(private readonly server: Server) {}

  static async open(): Promise<LayersService> {
    const server = createServer((client) => void service.lead(client));
    const service = new LayersService(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return service;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** An address for one more manager; all of 127.0.0.0/8 is this machine. */
  nextAddress(): string {
    const host = `127.${randomInt(64, 255)}.${randomInt(0, 255)}.${randomInt(1, 255)}`;
    this.backends.push(host);
    return `${host}:${PORT}`;
  }

  close(): void {
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
  }

  private async lead(client: Socket): Promise<void> {
    this.keep(client);
    for (const host of this.backends.toReversed()) {
      const backend = connect({ host, port: PORT });
      const isOpen = await once(backend, 'connect').then(
        () => true,
        () => false,
      );
      if (!isOpen) continue;
      this.keep(backend);
      client.pipe(backend).pipe(client);
      backend.once('close', () => client.destroy());
      client.once('close', () => backend.destroy());
      return;
    }
    client.destroy();
  }

  private keep(socket: Socket): void {
    this.sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.once('close', () => this.sockets.delete(socket));
  }
}
