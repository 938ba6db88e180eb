import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Access, User } from '../access/access.js';
import { discovery, VERSION } from './discovery.js';
import type { ObjectsApi } from './objects-api.js';
import type { ApiRequest } from './request.js';
import { badRequest, NO_SUCH_RESOURCE, Refusal } from './problems.js';
import { type Route, routeOf } from './route.js';

const MAX_BODY_BYTES = 3 * 1024 * 1024;

/** `pods/log`, `pods/proxy` and `services/proxy`, which are no objects. */
export interface Streams {
  serve(request: ApiRequest, authorize: (verb: string) => void): Promise<void>;
}

/** The HTTP side: who asks, for what, and what goes wrong on the way when a test wants it to. */
export class ApiServer {
  private server: Server | undefined;
  private port = 0;
  private latencyMs = 0;
  private throttled: { left: number; readonly retryAfterSeconds: number } = { left: 0, retryAfterSeconds: 1 };
  private readonly access: Access;
  private readonly objects: ObjectsApi;
  private readonly streams: Streams;

  constructor(access: Access, objects: ObjectsApi, streams: Streams) {
    this.access = access;
    this.objects = objects;
    this.streams = streams;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** On the same port each time. */
  async up(): Promise<void> {
    if (this.server !== undefined) return;
    const server = createServer({ keepAliveTimeout: 60_000 }, (message, response) => {
      this.serve(message, response).catch((error: unknown) => fail(response, error));
    });
    this.server = server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.port, '127.0.0.1', resolve);
    });
    this.port = (server.address() as AddressInfo).port;
  }

  /** Refuses connections and cuts those there are; everything else goes on. */
  async down(): Promise<void> {
    const { server } = this;
    if (server === undefined) return;
    this.server = undefined;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  }

  latency(ms: number): void {
    this.latencyMs = ms;
  }

  /** The next requests of the manager are answered with 429. */
  throttle(count: number, retryAfterSeconds: number): void {
    this.throttled = { left: count, retryAfterSeconds };
  }

  private async serve(message: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => undefined);
    if (this.latencyMs > 0) await delay(this.latencyMs);
    const url = new URL(message.url ?? '/', this.url);
    const user = this.access.userOf(message.headers.authorization);
    if (!user.isAdmin && this.throttled.left > 0) {
      this.throttled.left -= 1;
      response.writeHead(429, {
        'retry-after': String(this.throttled.retryAfterSeconds),
        'content-type': 'text/plain',
      });
      response.end('Too many requests, please try again later.');
      return;
    }
    const route = routeOf(url.pathname);
    if (route === undefined) return this.servePath(url.pathname, user, response);
    const request: ApiRequest = {
      route,
      user,
      query: url.searchParams,
      message,
      response,
      body: () => bodyOf(message),
    };
    if (route.subresource === 'log' || route.subresource === 'proxy') {
      return this.streams.serve(request, (verb) => this.access.authorize(user, { ...plainRoute(route), verb }));
    }
    const answer = await this.objects.serve(request);
    if (answer !== undefined) send(response, answer.code, answer.body);
  }

  private servePath(path: string, user: User, response: ServerResponse): void {
    this.access.authorizePath(user, 'get', path);
    if (['/livez', '/readyz', '/healthz'].includes(path)) {
      response.writeHead(200, { 'content-type': 'text/plain' }).end('ok');
      return;
    }
    const found =
      path === '/version' ? VERSION : discovery(path.replace(/(.)\/$/, '$1'), this.url.slice('http://'.length));
    if (found !== undefined) return send(response, 200, found);
    if (/^\/(api|apis\/[^/]+)\/v[^/]+\/./.test(path)) throw NO_SUCH_RESOURCE;
    response.writeHead(404, { 'content-type': 'text/plain' }).end('404 page not found\n');
  }
}

/** A proxied `pods/name:8000` is authorised as the pod. */
function plainRoute(route: Route): Route {
  const name =
    route.subresource === 'proxy' ? route.name?.split(':').find((part) => !/^(https?|\d+)$/.test(part)) : route.name;
  return { ...route, name };
}

async function bodyOf(message: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size <= MAX_BODY_BYTES) chunks.push(chunk);
  }
  if (size > MAX_BODY_BYTES) {
    throw new Refusal(413, 'RequestEntityTooLarge', `Request entity too large: limit is ${MAX_BODY_BYTES}`);
  }
  const encoding = message.headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity')
    throw badRequest(`content-encoding ${encoding} is not supported`);
  return Buffer.concat(chunks).toString('utf8');
}

function send(response: ServerResponse, code: number, body: unknown): void {
  const text = JSON.stringify(body);
  response.writeHead(code, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

export function fail(response: ServerResponse, error: unknown): void {
  const refusal =
    error instanceof Refusal ? error : new Refusal(500, 'InternalError', `Internal error occurred: ${stackOf(error)}`);
  if (response.headersSent) response.destroy();
  else send(response, refusal.code, refusal.status);
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
