import { connect, createServer, type Server, type Socket } from 'node:net';
import { KubeConfig } from '@kubernetes/client-node';

/** A way to the API server that can be cut, and made whole again, while the cluster serves everybody else. */
export class ApiLine {
  private readonly sockets = new Set<Socket>();
  private server: Server | undefined;
  private port = 0;
  private silent = false;

  private constructor(private readonly target: URL) {}

  static async to(server: string): Promise<ApiLine> {
    const line = new ApiLine(new URL(server));
    await line.mend();
    return line;
  }

  /** The same kubeconfig, but through this line. */
  through(kubeconfig: string): string {
    const config = new KubeConfig();
    config.loadFromString(kubeconfig);
    const cluster = config.getCurrentCluster();
    const user = config.getCurrentUser();
    if (cluster === null || user === null) throw new Error('The kubeconfig names no cluster and user.');
    const moved = new KubeConfig();
    moved.loadFromClusterAndUser({ ...cluster, server: `${this.target.protocol}//127.0.0.1:${this.port}` }, user);
    return moved.exportConfig();
  }

  /** Connections end, and new ones are refused. */
  async cut(): Promise<void> {
    const { server } = this;
    this.server = undefined;
    const closed = new Promise<void>((resolve) => (server === undefined ? resolve() : server.close(() => resolve())));
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }

  async mend(): Promise<void> {
    const server = createServer((socket) => this.join(socket));
    this.server = server;
    this.silent = false;
    await new Promise<void>((resolve) => server.listen(this.port, '127.0.0.1', resolve));
    this.port = (server.address() as { port: number }).port;
  }

  /** Connections stay, and nothing passes any more, as behind a firewall that forgot them. */
  hush(): void {
    this.silent = true;
  }

  private join(inner: Socket): void {
    const outer = connect(Number(this.target.port || 443), this.target.hostname);
    for (const [socket, other] of [
      [inner, outer],
      [outer, inner],
    ] as const) {
      this.sockets.add(socket);
      socket.on('data', (chunk) => {
        if (!this.silent) other.write(chunk);
      });
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        this.sockets.delete(socket);
        other.destroy();
      });
    }
  }
}
