import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type Docker from 'dockerode';
import { connectDocker } from '#libs/orchestrator-docker/create-docker-orchestrator.js';

const ENGINE_SOCKET = (process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock').replace(/^unix:\/\//, '');

/** A proxy in front of the engine's socket that can be cut and mended, as when the engine is restarted. */
export class CuttableEngine {
  private readonly folder = mkdtempSync(join(tmpdir(), 'faas-engine-'));
  private readonly path = join(this.folder, 'engine.sock');
  private readonly sockets = new Set<Socket>();
  private server: Server | undefined;
  /** Accepts and says nothing. */
  mute = false;

  connect(): Docker {
    return connectDocker({ socketPath: this.path });
  }

  async mend(): Promise<void> {
    const server = createServer((from) => this.join(from));
    this.server = server;
    await new Promise<void>((resolve) => server.listen(this.path, resolve));
  }

  async cut(): Promise<void> {
    const { server } = this;
    this.server = undefined;
    const closed = new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve()));
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }

  async close(): Promise<void> {
    await this.cut();
    rmSync(this.folder, { recursive: true, force: true });
  }

  private join(from: Socket): void {
    const to = connect(ENGINE_SOCKET);
    for (const [socket, other] of [
      [from, to],
      [to, from],
    ] as const) {
      this.sockets.add(socket);
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        this.sockets.delete(socket);
        other.destroy();
      });
      socket.on('data', (chunk) => {
        if (!this.mute) other.write(chunk);
      });
    }
  }
}
