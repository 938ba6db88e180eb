import { createServer, type IncomingMessage, request as overHttp, type Server, type ServerResponse } from 'node:http';
import { request as overHttps } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';
import { type Cluster, KubeConfig } from '@kubernetes/client-node';

/** One right that was asked for: `get pods/log`, `patch deployments.apps`. */
export interface Use {
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  readonly allowed: boolean;
}

const VERBS: Readonly<Record<string, string>> = { POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' };
const OBJECTS = /^\/api(?:s\/([^/]+))?\/v[^/]+\/(?:namespaces\/[^/]+\/)?([^/]+)(?:\/([^/]+))?(?:\/([^/]+))?$/;

/**
 * A manager's way to the API server, on which a test can put what goes wrong on such ways. The cluster goes on serving
 * everybody else.
 */
export class ApiProxy {
  /** Milliseconds that every request takes longer. */
  latencyMs = 0;
  /** What the rights of a manager were used for. */
  readonly uses: Use[] = [];
  private readonly target: URL;
  private readonly tls: object;
  private server: Server | undefined;
  private port = 0;
  private readonly watches = new Set<ServerResponse>();
  private throttled = 0;
  private retryAfterSeconds = 0;
  private oldest = 0;
  private isSilent = false;
  private isRevoked = false;

  private constructor({ server, caData, skipTLSVerify }: Cluster) {
    this.target = new URL(server);
    const ca = caData === undefined ? undefined : Buffer.from(caData, 'base64');
    this.tls = { ca, rejectUnauthorized: !skipTLSVerify };
  }

  static async to(cluster: Cluster): Promise<ApiProxy> {
    const proxy = new ApiProxy(cluster);
    await proxy.mend();
    return proxy;
  }

  /** The same kubeconfig, but through this proxy. */
  through(kubeconfig: string): string {
    const config = new KubeConfig();
    config.loadFromString(kubeconfig);
    const user = config.getCurrentUser();
    if (user === null) throw new Error('The kubeconfig names no user.');
    const moved = new KubeConfig();
    // Clients send a token without TLS only where they are told not to verify it.
    const cluster = { name: 'proxy', server: `http://127.0.0.1:${this.port}`, skipTLSVerify: true };
    moved.loadFromClusterAndUser(cluster, user);
    return moved.exportConfig();
  }

  get openWatches(): number {
    return this.watches.size;
  }

  /** Connections end, and new ones are refused. */
  async cut(): Promise<void> {
    const { server } = this;
    this.server = undefined;
    if (server === undefined) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  }

  async mend(): Promise<void> {
    const server = createServer((request, response) => void this.pass(request, response));
    this.server = server;
    this.isSilent = false;
    await new Promise<void>((resolve) => server.listen(this.port, '127.0.0.1', resolve));
    this.port = (server.address() as { port: number }).port;
  }

  /** Connections stay, and nothing passes any more, as behind a firewall that forgot them. */
  hush(): void {
    this.isSilent = true;
  }

  /** The next requests are answered with 429. */
  throttle(count: number, retryAfterSeconds: number): void {
    this.throttled = count;
    this.retryAfterSeconds = retryAfterSeconds;
  }

  /** Cuts every watch. */
  dropWatches(): void {
    for (const watch of this.watches) watch.socket?.destroy();
  }

  /** Ends every watch in good order, as the API server does now and then. */
  endWatches(): void {
    for (const watch of this.watches) watch.end();
  }

  /** Watches from before this resource version are told that it is too old, as after etcd was compacted. */
  expire(resourceVersion: string): void {
    this.oldest = Number(resourceVersion);
  }

  /** Whatever token is sent gets there as a wrong one. */
  revoke(): void {
    this.isRevoked = true;
  }

  private async pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => undefined);
    const { pathname, searchParams } = new URL(request.url ?? '/', this.target);
    const isWatch = searchParams.has('watch');
    if (this.latencyMs > 0) await delay(this.latencyMs);
    if (this.isSilent) return;
    if (this.throttled > 0) {
      this.throttled -= 1;
      const retryAfter = { 'retry-after': String(this.retryAfterSeconds) };
      refuse(response, 429, 'TooManyRequests', 'too many requests, please try again later', retryAfter);
      return;
    }
    const since = Number(searchParams.get('resourceVersion') ?? 0);
    if (isWatch && since > 0 && since < this.oldest) {
      refuse(response, 410, 'Expired', `too old resource version: ${since} (${this.oldest})`);
      return;
    }
    this.forward(request, response, isWatch, (status) =>
      this.record(request.method ?? 'GET', pathname, isWatch, status),
    );
  }

  private forward(
    request: IncomingMessage,
    response: ServerResponse,
    isWatch: boolean,
    onAnswer: (status: number) => void,
  ): void {
    const { protocol, hostname, port } = this.target;
    const headers = { ...request.headers, host: this.target.host };
    if (this.isRevoked) headers.authorization = 'Bearer revoked';
    const options = { hostname, port, path: request.url, method: request.method, headers, ...this.tls };
    const upstream = (protocol === 'https:' ? overHttps : overHttp)(options);
    upstream.on('response', (answer) => {
      const { statusCode = 502 } = answer;
      onAnswer(statusCode);
      response.writeHead(statusCode, answer.headers);
      response.flushHeaders();
      if (isWatch && statusCode === 200) this.watches.add(response);
      answer.on('data', (chunk: Buffer) => {
        if (!this.isSilent) response.write(chunk);
      });
      answer.on('end', () => {
        if (!this.isSilent) response.end();
      });
      answer.on('error', () => response.destroy());
    });
    upstream.on('error', () => response.destroy());
    response.on('close', () => {
      this.watches.delete(response);
      upstream.destroy();
    });
    request.pipe(upstream);
  }

  private record(method: string, path: string, isWatch: boolean, status: number): void {
    const [, group = '', resource, name, subresource] = OBJECTS.exec(path) ?? [];
    if (resource === undefined) return;
    const reading = isWatch ? 'watch' : name === undefined ? 'list' : 'get';
    const verbs = [method === 'DELETE' && name === undefined ? 'deletecollection' : (VERBS[method] ?? reading)];
    // What applying makes needs that right too.
    if (method === 'PATCH' && status === 201) verbs.push('create');
    for (const verb of verbs) {
      const full = subresource === undefined ? resource : `${resource}/${subresource}`;
      const use = { verb, group, resource: full, allowed: status !== 403 };
      if (!this.uses.some((known) => JSON.stringify(known) === JSON.stringify(use))) this.uses.push(use);
    }
  }
}

function refuse(response: ServerResponse, code: number, reason: string, message: string, headers: object = {}): void {
  const status = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code };
  response.writeHead(code, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(status));
}
