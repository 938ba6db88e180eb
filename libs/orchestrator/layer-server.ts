import { createHash, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import type { Logger } from 'pino';
import type { FetchedLayer, Layer } from './layers.js';
import type { WorkerTokens } from './worker-tokens.js';

const PATH = /^\/layers\/([0-9a-f]{64})$/;
/** Each reads the database for as long as it lasts; whoever finds no place tries again. */
const MOST_AT_ONCE = 8;
const MOST_CONNECTIONS = 4_096;
/** Functions can connect, though they can ask for nothing: one must not take the place of all others. */
const MOST_OF_ONE_ADDRESS = 16;
const REQUEST_MS = 2_000;
/** Of one that takes nothing. */
const STALL_MS = 30_000;
const LONGEST_MS = 300_000;

/** What a worker is told of a layer that it is to fetch. */
export async function fetchedLayer(
  layer: Layer,
  url: string,
  tokens: WorkerTokens,
  signal: AbortSignal,
): Promise<FetchedLayer> {
  const { digest } = layer;
  const archive = await layer.describe(signal);
  return { digest, url: `${url}/layers/${digest}`, token: tokens.forLayer(digest), ...archive };
}

/** Hands out the archives of layers, each to whoever has its token, and nothing else. */
export class LayerServer {
  private readonly closing = new AbortController();
  private open = 0;
  private readonly connections = new Map<string, number>();

  private constructor(
    private readonly server: Server,
    private readonly tokens: WorkerTokens,
    private readonly layer: (digest: string) => Layer,
    private readonly logger: Logger,
  ) {}

  static async listen(
    { host, port }: { readonly host: string; readonly port: number },
    tokens: WorkerTokens,
    layer: (digest: string) => Layer,
    logger: Logger,
  ): Promise<LayerServer> {
    const http = createServer({
      requestTimeout: REQUEST_MS,
      headersTimeout: REQUEST_MS,
      connectionsCheckingInterval: REQUEST_MS / 2,
      maxHeaderSize: 4_096,
      keepAlive: false,
    });
    http.maxConnections = MOST_CONNECTIONS;
    http.maxRequestsPerSocket = 1;
    http.timeout = STALL_MS;
    const server = new LayerServer(http, tokens, layer, logger);
    http.on('connection', (socket) => server.admit(socket));
    http.on('request', (request, response) => void server.answer(request, response));
    http.listen({ host, port });
    await once(http, 'listening');
    return server;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** Whoever is cut off tries again, and finds another manager. */
  close(): void {
    this.closing.abort();
    this.server.close();
    this.server.closeAllConnections();
  }

  private admit(socket: Socket): void {
    const { remoteAddress = '' } = socket;
    const count = (this.connections.get(remoteAddress) ?? 0) + 1;
    if (count > MOST_OF_ONE_ADDRESS) return void socket.destroy();
    this.connections.set(remoteAddress, count);
    socket.once('close', () => {
      const left = (this.connections.get(remoteAddress) ?? 1) - 1;
      if (left === 0) this.connections.delete(remoteAddress);
      else this.connections.set(remoteAddress, left);
    });
  }

  private async answer({ method, url = '', headers }: IncomingMessage, response: ServerResponse): Promise<void> {
    const digest = PATH.exec(url)?.[1];
    response.setHeader('Connection', 'close');
    if (method !== 'GET' || digest === undefined) return end(response, 404);
    // Also for one that isn't there: nobody learns which ones are.
    if (!isSame(headers.authorization, `Bearer ${this.tokens.forLayer(digest)}`)) return end(response, 403);
    if (this.open >= MOST_AT_ONCE) return end(response.setHeader('Retry-After', '1'), 503);
    this.open += 1;
    try {
      await this.send(digest, response);
    } catch (error) {
      if (!response.headersSent) end(response, 503);
      response.destroy();
      if (!this.closing.signal.aborted) this.logger.warn({ layer: digest, reason: String(error) }, 'layer not sent');
    } finally {
      this.open -= 1;
    }
  }

  private async send(digest: string, response: ServerResponse): Promise<void> {
    const signal = AbortSignal.any([this.closing.signal, AbortSignal.timeout(LONGEST_MS)]);
    const archive = await this.layer(digest).open(signal);
    response.writeHead(200, { 'Content-Type': 'application/x-tar' });
    await pipeline(archive, response, { signal });
  }
}

function end(response: ServerResponse, status: number): void {
  response.writeHead(status).end();
}

function isSame(shown: string | undefined, wanted: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return shown !== undefined && timingSafeEqual(digest(shown), digest(wanted));
}
