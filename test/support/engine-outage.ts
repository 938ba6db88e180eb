import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type NetConnectOpts, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { docker } from '../docker/support/docker-tests.js';

/** A way to the Docker engine that can be cut and made whole again, while the engine serves everybody else. */
export class EngineLine {
  private readonly sockets = new Set<Socket>();
  private server: Server | undefined;

  private constructor(
    private readonly folder: string,
    private readonly engine: NetConnectOpts,
  ) {}

  static async open(): Promise<EngineLine> {
    const line = new EngineLine(await mkdtemp(join(tmpdir(), 'faas-engine-')), await engineAddress());
    await line.mend();
    return line;
  }

  /** For `DOCKER_HOST`. */
  get host(): string {
    return `unix://${this.path}`;
  }

  async cut(): Promise<void> {
    const closed = new Promise<unknown>((resolve) => this.server?.close(resolve));
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }

  async mend(): Promise<void> {
    const server = createServer((socket) => this.join(socket));
    this.server = server;
    await new Promise<void>((resolve) => server.listen(this.path, resolve));
  }

  async close(): Promise<void> {
    await this.cut();
    await rm(this.folder, { recursive: true, force: true });
  }

  private get path(): string {
    return join(this.folder, 'engine.sock');
  }

  private join(inner: Socket): void {
    const outer = connect(this.engine);
    for (const [socket, other] of [
      [inner, outer],
      [outer, inner],
    ] as const) {
      this.sockets.add(socket);
      socket.pipe(other);
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        this.sockets.delete(socket);
        other.destroy();
      });
    }
  }
}

async function engineAddress(): Promise<NetConnectOpts> {
  const modem = docker.modem as unknown as {
    socketPath?: string | (() => Promise<string>);
    host: string;
    port: number;
  };
  const { socketPath, host, port } = modem;
  if (socketPath === undefined) return { host, port };
  return { path: typeof socketPath === 'string' ? socketPath : await socketPath() };
}
