import type { ServerConfig } from '#libs/config/config.js';
import { InvalidRequest, UnsupportedTransferCoding } from '#libs/errors/errors.js';
import { type ProblemCode, PROBLEMS } from '#libs/errors/problems.js';
import { requestIdOf } from '#libs/errors/request-id.js';
import { randomUUID } from 'node:crypto';
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
  STATUS_CODES,
} from 'node:http';
import type { Socket } from 'node:net';
import type { MemoryBudget } from '../memory/memory-budget.js';
import type { Access, ProtectedRoute } from '../auth/access.js';
import { notePrincipal } from '../auth/audit.js';
import { noteUncounted } from './client-connection.js';
import { ClientConnections } from './client-connections.js';
import { HTTP_CALL, type HttpCalls, type HttpTarget } from '../gateway/http-calls.js';
import { problemWith, sendProblem } from '#libs/errors/problem.js';
import { asAppError } from '#libs/errors/problem.filter.js';
import { areTooManyPieces } from '../memory/chunks.js';
import { serveHalfClosed } from './half-closed.js';
import { isHandshake, responseToUpgrade, upgradeOf } from './upgrade.js';

/** With a query they go to the framework's router, which knows what parameters there are. */
const EXECUTE_PATH = /^\/functions\/([^/?#]+)\/execute\/?\??$/;
const INVOCATIONS_PATH = /^\/functions\/([^/?#]+)\/invocations\/?\??$/;
/** The same with any query, for calls whose answer isn't waited for. */
const LATER_PATH = /^\/functions\/([^/?#]+)\/execute\/?(\?[^#]*)?$/;
const RESPOND_ASYNC = /(^|[,;\s])respond-async($|[,;\s])/i;
const APPLIED = ['Preference-Applied', 'respond-async'] as const;
const EXECUTE: ProtectedRoute = { scope: 'invoke', route: '/functions/:id/execute' };
const INVOCATIONS: ProtectedRoute = { scope: 'invoke', route: '/functions/:id/invocations' };
const ABSOLUTE_FORM = /^https?:\/\/([^/?#]+)([^#]*)$/i;
const HEADER_BYTES = 16 * 1024;
const HEADERS_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 75_000;
const CHECK_MS = 1_000;
/** How long the sender of a broken request has to read the answer. */
const LINGER_MS = 1_000;

export interface ServerOptions {
  /** How long a client may leave an answer unread. */
  readonly readTimeoutMs?: number | undefined;
  /** Which requests for a WebSocket may be answered with one. */
  readonly mayUpgrade?: ((request: IncomingMessage) => boolean) | undefined;
}

/** An HTTP server with limits for every wait for a client and for everything kept for clients. */
export function createHttpServer(
  listener: RequestListener,
  config: ServerConfig,
  memory: MemoryBudget,
  { readTimeoutMs, mayUpgrade = () => false }: ServerOptions = {},
): Server {
  const serve = forOneHost(listener);
  const server = createServer({
    maxHeaderSize: HEADER_BYTES,
    headersTimeout: Math.min(HEADERS_TIMEOUT_MS, config.requestTimeoutMs),
    requestTimeout: config.requestTimeoutMs,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connectionsCheckingInterval: Math.min(CHECK_MS, config.requestTimeoutMs),
    noDelay: true,
    // Checked here, so that the sender gets a problem document.
    requireHostHeader: false,
    // All other requests to upgrade, such as those for HTTP/2, are what they are without it.
    shouldUpgradeCallback: (request) => isHandshake(request) && mayUpgrade(request),
  });
  const connections = new ClientConnections(server, memory, readTimeoutMs);
  const last = new WeakSet<Socket>();
  const admit = (response: ServerResponse, to: RequestListener) => {
    const { socket, headers } = response.req;
    // Node forgets what has arrived with a request that was not upgraded: what follows may be the rest of another one.
    if (last.has(socket)) {
      // Its answer ends the connection.
      socket.pause();
      return;
    }
    if (headers.upgrade !== undefined) last.add(socket);
    connections.admit(response, to);
  };
  serveHalfClosed(server);
  server.on('request', (_, response) => admit(response, serve));
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    if (error.code !== 'ERR_HTTP_REQUEST_TIMEOUT' || !connections.excuses(socket)) answerBrokenRequest(error, socket);
  });
  server.on('upgrade', (request, socket: Socket, head) => {
    const response = responseToUpgrade(request, socket, head);
    if (response !== undefined) connections.admit(response, serve);
  });
  server.on('checkContinue', (request, response) => {
    askForBodyWhenRead(request, response);
    admit(response, serve);
  });
  server.on('checkExpectation', (_, response) => admit(response, refuseExpectation));
  return server;
}

/**
 * Lets a client that waits for it send its body when somebody reads it (RFC 9110, 10.1.1): what is refused before is
 * not sent at all. As nobody can tell whether the body comes after such an answer, no other request may follow it.
 */
function askForBodyWhenRead(request: IncomingMessage, response: ServerResponse): void {
  const { shouldKeepAlive } = response;
  response.shouldKeepAlive = false;
  request.once('resume', () => {
    if (response.headersSent) return;
    response.shouldKeepAlive = shouldKeepAlive;
    // While an earlier request of the connection is being answered, this would get into its answer.
    if (response.socket !== null) response.writeContinue();
    else response.once('socket', () => response.headersSent || response.writeContinue());
  });
}

function refuseExpectation(request: IncomingMessage, response: ServerResponse): void {
  const { head, body } = brokenRequest('EXPECTATION', requestIdOf(request));
  response.writeHead(417, head).end(body);
}

/**
 * Refuses a request that names two hosts: who may ask is decided by one, and what stands in front may read the other.
 */
function forOneHost(listener: RequestListener): RequestListener {
  return (request, response): void => {
    const { 'transfer-encoding': coding, upgrade } = request.headers;
    // No other one may follow it.
    if (upgrade !== undefined) response.setHeader('Connection', 'close');
    if (coding !== undefined) {
      boundPieces(request, response);
      if (coding.toLowerCase() !== 'chunked') {
        response.setHeader('Connection', 'close');
        sendProblem(response, new UnsupportedTransferCoding(coding), requestIdOf(request));
        return;
      }
    }
    const hosts = hostsOf(request);
    const named = originForm(request);
    if (named !== undefined && hosts === 1 && named !== request.headers.host?.toLowerCase()) {
      response.setHeader('Connection', 'close');
      const fault = 'The Host header and the target name two hosts.';
      sendProblem(response, new InvalidRequest(fault), requestIdOf(request));
      return;
    }
    if (hosts === 1 || (hosts === 0 && request.httpVersion === '1.0')) {
      listener(request, response);
      return;
    }
    response.setHeader('Connection', 'close');
    const fault = hosts === 0 ? 'The Host header is missing.' : 'There is more than one Host header.';
    sendProblem(response, new InvalidRequest(fault), requestIdOf(request));
  };
}

/**
 * Ends a connection that sends a body in tiny pieces, or goes on with one that nobody wants any more: pieces cost work
 * for each, and there is no length that says when it ends.
 */
function boundPieces(request: IncomingMessage, response: ServerResponse): void {
  const { socket } = request;
  let pieces = 0;
  let bytes = 0;
  const push = request.push.bind(request);
  request.push = (chunk: Buffer | null, encoding?: BufferEncoding): boolean => {
    if (chunk === null) return push(chunk, encoding);
    pieces += 1;
    bytes += chunk.length;
    if (!areTooManyPieces(pieces, bytes)) return push(chunk, encoding);
    socket.destroy();
    return false;
  };
  response.once('finish', () => {
    if (request.complete) return;
    // Once Node has begun to read on.
    setImmediate(() => socket.pause());
    setTimeout(() => socket.destroy(), LINGER_MS).unref();
  });
}

/** Leaves path and query of a target that has all of an address (RFC 9112, 3.2.2), and gives the host that it names. */
function originForm(request: IncomingMessage): string | undefined {
  const { url = '' } = request;
  if (url.startsWith('/')) return undefined;
  const [, host, rest = ''] = ABSOLUTE_FORM.exec(url) ?? [];
  if (host !== undefined) request.url = rest.startsWith('/') ? rest : `/${rest}`;
  return host?.toLowerCase();
}

/** From the raw headers: Node keeps only the first Host header. */
function hostsOf({ rawHeaders }: IncomingMessage): number {
  let hosts = 0;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] as string;
    if (name.length === 4 && name.toLowerCase() === 'host') hosts += 1;
  }
  return hosts;
}

export function listen(server: Server, { host, port }: ServerConfig): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

/** Runs calls of functions that everybody may call, whatever page they come from: that is for their handlers to say. */
export function publicAhead(calls: HttpCalls, others: RequestListener): RequestListener {
  return (request, response): void => {
    const target = calls.targetOf(request);
    let isPublic: boolean | Promise<boolean>;
    try {
      // What is kept asks for a key, whoever may call.
      isPublic = target !== undefined && !prefersLater(request) && calls.isPublic(target, request);
    } catch (thrown) {
      sendProblem(response, asAppError(thrown, request.method ?? '', HTTP_CALL.route), requestIdOf(request));
      return;
    }
    const go = (mayCall: boolean): void => {
      // Its caller has left meanwhile, which nobody would hear any more.
      if (response.destroyed) return;
      if (target !== undefined && mayCall) void calls.handle(target, request, response);
      else others(request, response);
    };
    if (isPublic instanceof Promise) void isPublic.then(go);
    else go(isPublic);
  };
}

/** What takes calls by Node's own requests. Never throws. */
export interface CallHandler {
  /** `to`: the request is an HTTP call. */
  handle(reference: string, request: IncomingMessage, response: ServerResponse, to?: HttpTarget): Promise<void>;
}

/**
 * Takes calls, at once and for later, ahead of the framework's router, which takes more time than everything else that
 * the manager does for them. The controllers of the same routes document them; access, limits and errors are the same
 * objects.
 */
export function callsAhead(
  http: CallHandler,
  calls: HttpCalls,
  later: CallHandler,
  access: Access,
  others: RequestListener,
): RequestListener {
  return (request, response): void => {
    const target = calls.targetOf(request);
    if (target !== undefined) {
      if (!isLetIn(access, HTTP_CALL, request, response)) return;
      if (prefersLater(request)) {
        response.setHeader(...APPLIED);
        void later.handle(target.reference, request, response, target);
      } else void calls.handle(target, request, response);
      return;
    }
    respondAsync(request, response);
    const url = request.url ?? '';
    const isPost = request.method === 'POST';
    const called = isPost ? EXECUTE_PATH.exec(url) : null;
    if (called) {
      if (isLetIn(access, EXECUTE, request, response))
        void http.handle(decoded(called[1] as string), request, response);
      return;
    }
    const kept = isPost ? INVOCATIONS_PATH.exec(url) : null;
    if (kept) {
      if (isLetIn(access, INVOCATIONS, request, response)) {
        void later.handle(decoded(kept[1] as string), request, response);
      }
      return;
    }
    response.setHeader('X-Request-Id', requestIdOf(request));
    noteUncounted(response, true);
    others(request, response);
  };
}

/** Whether a call shall be one for later (RFC 7240, section 4.1). */
function prefersLater(request: IncomingMessage): boolean {
  const { prefer } = request.headers;
  // Nobody can talk to what runs later.
  return prefer !== undefined && RESPOND_ASYNC.test(String(prefer)) && upgradeOf(request) === undefined;
}

function respondAsync(request: IncomingMessage, response: ServerResponse): void {
  if (request.method !== 'POST' || !prefersLater(request)) return;
  const [, id, query = ''] = LATER_PATH.exec(request.url ?? '') ?? [];
  if (id === undefined) return;
  request.url = `/functions/${id}/invocations${query}`;
  response.setHeader(...APPLIED);
}

/** Answers a request that is not. */
function isLetIn(access: Access, to: ProtectedRoute, request: IncomingMessage, response: ServerResponse): boolean {
  const principal = access.authenticate(request, response, to);
  if (!(principal instanceof Promise)) {
    // Its row, or its record in the history, says whose it is.
    notePrincipal(request, principal);
    return true;
  }
  principal.catch((thrown: unknown) => {
    sendProblem(response, asAppError(thrown, request.method ?? '', to.route), requestIdOf(request));
  });
  return false;
}

/** An id that can't be decoded stays as it is: no function has it. */
function decoded(segment: string): string {
  if (!segment.includes('%')) return segment;
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

const BROKEN: Record<string, { code: ProblemCode; detail: string }> = {
  HPE_HEADER_OVERFLOW: {
    code: 'headers_too_large',
    detail: `The request has too many headers, or they are larger than ${HEADER_BYTES} bytes.`,
  },
  ERR_HTTP_REQUEST_TIMEOUT: {
    code: 'request_timeout',
    detail: 'The request did not arrive in time.',
  },
  EXPECTATION: {
    code: 'expectation_failed',
    detail: 'Only "Expect: 100-continue" can be met.',
  },
};

/** Answers what is no HTTP request, and so never reaches a controller, with a problem document too. */
function answerBrokenRequest(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable || socket.bytesWritten > 0) {
    socket.destroy();
    return;
  }
  const { status, head, body } = brokenRequest(error.code ?? '', randomUUID());
  const lines = Object.entries(head).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join('')}\r\n${body}`);
  // Node doesn't watch this socket any more, and keeps what it has sent while it is open.
  setTimeout(() => socket.destroy(), LINGER_MS).unref();
}

function brokenRequest(fault: string, requestId: string) {
  const { code, detail } = BROKEN[fault] ?? {
    code: 'invalid_request' as const,
    detail: 'The request is not valid HTTP.',
  };
  const { status } = PROBLEMS[code];
  const body = JSON.stringify(problemWith(code, status, detail, requestId));
  const head = {
    'Content-Type': 'application/problem+json; charset=utf-8',
    'Content-Length': Buffer.byteLength(body),
    'X-Request-Id': requestId,
    Connection: 'close',
  };
  return { status, head, body };
}
