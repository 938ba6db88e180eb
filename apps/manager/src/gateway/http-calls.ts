import type { AuthConfig, LimitsConfig } from '#libs/config/config.js';
import { AUTH_CONFIG, LIMITS_CONFIG } from '#libs/config/config.module.js';
import { ProblemLog } from '#libs/errors/problem-log.js';
import { Inject, Injectable } from '@nestjs/common';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex, Writable } from 'node:stream';
import { Access, type ProtectedRoute } from '../auth/access.js';
import { isFunctionId } from '../functions/function-id.js';
import { MemoryBudget } from '../memory/memory-budget.js';
import { isName } from '../functions/dto/metadata.dto.js';
import { CallEdge, headersOfCall } from './call-edge.js';
import type { CallTiming } from './call-timing.js';
import { headerChoiceOf } from './choice.js';
import { checkBinary, checkStructured, eventModeOf } from './cloud-event.js';
import { CallCancelled, InvalidHandshake, TooManyStrangers } from './errors.js';
import { asAppError } from '#libs/errors/problem.filter.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { asksForWebSocket, type Upgrade, upgradeOf } from '../http/upgrade.js';
import type { HttpSink, WebSocketCaller } from './http-exchange.js';
import { handshakeForWorker, headersForWorker, type Mount } from './http-headers.js';
import { Invoker } from './invoker.js';
import { RequestBody } from './request-body.js';
import { Router } from './router.js';
import { WebSockets } from './web-sockets.js';
import type { WebSocketTunnel } from './web-socket-tunnel.js';

/** A request for a function. */
export interface HttpTarget extends Mount {
  /** Its id or its name. */
  readonly reference: string;
  /** The path below the root, and the query. */
  readonly target: string;
}

export const HTTP_CALL: ProtectedRoute = { scope: 'invoke', route: '/f/:id' };

const UNDER_PATH = /^(\/f\/([a-z0-9-]{1,63}))((?:\/[^?#]*)?)((?:\?[^#]*)?)$/;
const PLAIN_PATH = /^\/[^#]*$/;
/** So many functions are looked up at once whose callers may need a key or not. */
const MOST_LOOK_UPS = 16;
/**
 * What a function shows under the manager's own address is no page of the manager's: without an origin of its own a
 * script in it could do whatever the manager's pages may do.
 */
const SANDBOX =
  'sandbox allow-downloads allow-forms allow-modals allow-popups allow-popups-to-escape-sandbox allow-scripts';

/** Calls whose method, path, query, headers and body are the handler's, as is the answer. */
@Injectable()
export class HttpCalls extends CallEdge {
  private readonly domain: string;
  private readonly lookUps = new Map<string, Promise<boolean>>();

  constructor(
    private readonly invoker: Invoker,
    private readonly router: Router,
    private readonly access: Access,
    private readonly webSockets: WebSockets,
    memory: MemoryBudget,
    @Inject(LIMITS_CONFIG) private readonly limits: LimitsConfig,
    @Inject(AUTH_CONFIG) { functionsDomain }: Pick<AuthConfig, 'functionsDomain'>,
    problems: ProblemLog,
  ) {
    super(memory, problems);
    this.domain = functionsDomain === '' ? '' : `.${functionsDomain}`;
  }

  /** The function that a request is for; undefined: it is for the manager. */
  targetOf(request: IncomingMessage): HttpTarget | undefined {
    const { url = '', headers } = request;
    if (this.domain !== '' && headers.host !== undefined) {
      const host = headers.host.replace(/\.?(?::\d*)?$/, '').toLowerCase();
      if (host.endsWith(this.domain)) {
        const reference = host.slice(0, -this.domain.length);
        return { reference, root: '', target: PLAIN_PATH.test(url) ? url : '/' };
      }
    }
    if (!url.startsWith('/f/')) return undefined;
    const matched = UNDER_PATH.exec(url);
    if (matched === null) return undefined;
    const [, root, reference, path, query] = matched as unknown as [string, string, string, string, string];
    return { reference, root, target: `${path === '' ? '/' : path}${query}` };
  }

  /**
   * Whether everybody may call the function; what isn't known to exist is not public. Throws {@link TooManyStrangers}
   * when that can't be found out now, and the request shows nothing else that it could be let in by.
   */
  isPublic({ reference }: HttpTarget, request: IncomingMessage): boolean | Promise<boolean> {
    const known = this.router.knownRoute(reference);
    if (known !== undefined) return known.isPublic;
    if (!(isFunctionId(reference) || isName(reference))) return false;
    const underWay = this.lookUps.get(reference);
    if (underWay !== undefined) return underWay;
    if (this.lookUps.size >= MOST_LOOK_UPS) {
      if (this.access.isStranger(request, HTTP_CALL)) throw new TooManyStrangers();
      return false;
    }
    const lookUp = this.lookUp(reference).finally(() => this.lookUps.delete(reference));
    this.lookUps.set(reference, lookUp);
    return lookUp;
  }

  private async lookUp(reference: string): Promise<boolean> {
    try {
      return (await this.router.route(reference)).isPublic;
    } catch {
      // Whoever may call is told why.
      return false;
    }
  }

  /** Answers the call or its problem. Never throws. */
  handle(to: HttpTarget, request: IncomingMessage, response: ServerResponse): Promise<void> {
    return this.serve(request, response, async (incoming) => {
      const { requestId, timing, reservation } = incoming;
      const upgrade = upgradeOf(request);
      if (upgrade === undefined && asksForWebSocket(request)) throw new InvalidHandshake();
      const body = new RequestBody(request);
      const event = eventModeOf(request.headers);
      if (event === 'binary') checkBinary(request.headers);
      const readPayload = async () => {
        const beginning = await body.begin(reservation);
        timing.received(performance.now());
        // One that is larger than what is kept is its handler's to look at.
        if (event === 'structured' && body.whole !== undefined) checkStructured(body.whole, request.headers);
        return beginning;
      };
      const headers = headersForWorker(request, to, this.access.keyHeaders(request), requestId);
      const answer = new HandlersAnswer(response, to, requestId, timing);
      const webSocket =
        upgrade === undefined ? undefined : new Caller(this.webSockets, request, upgrade, answer, timing);
      const http = {
        method: request.method ?? 'GET',
        target: to.target,
        mount: to,
        headers: upgrade === undefined ? headers : handshakeForWorker(headers),
        body,
        payloadBytes: this.limits.payloadBytes,
        idleMs: this.limits.streamIdleMs,
        sink: answer,
        webSocket,
      };
      const choice = headerChoiceOf(request);
      try {
        await this.invoker.invoke(to.reference, { ...incoming, kind: 'http', readPayload, choice, http });
      } catch (error) {
        if (webSocket?.hasBegun !== true) throw error;
        // Whoever has it knows by the code that it was closed with.
        const problem = asAppError(error, request.method ?? '', HTTP_CALL.route);
        if (!(problem instanceof CallCancelled)) this.problems.note(problem, request);
      } finally {
        body.end();
        webSocket?.[Symbol.dispose]();
      }
    });
  }
}

class HandlersAnswer implements HttpSink {
  constructor(
    private readonly response: ServerResponse,
    private readonly mount: Mount,
    private readonly requestId: string,
    private readonly timing: CallTiming,
  ) {}

  accept(headers: readonly string[]): void {
    const head = ['Connection', 'Upgrade', 'Upgrade', 'websocket', ...headers];
    this.timing.httpStatus = 101;
    this.response.writeHead(101, [...head, ...headersOfCall(this.requestId, this.timing)]).flushHeaders();
  }

  begin(status: number, headers: readonly string[]): Writable {
    this.timing.httpStatus = status;
    const head = [...headers, ...headersOfCall(this.requestId, this.timing)];
    // Beside a policy of the handler's own: a page must keep to all of them.
    if (this.mount.root !== '') head.push('Content-Security-Policy', SANDBOX);
    return this.response.writeHead(status, head);
  }
}

/** The client of a WebSocket, with its place among those of its function. */
class Caller implements WebSocketCaller, Disposable {
  readonly key: string;
  hasBegun = false;
  private place: Disposable | undefined;

  constructor(
    private readonly all: WebSockets,
    request: IncomingMessage,
    private readonly upgrade: Upgrade,
    private readonly answer: HandlersAnswer,
    private readonly timing: CallTiming,
  ) {
    this.key = request.headers['sec-websocket-key'] ?? '';
  }

  admit(id: FunctionId): void {
    this.place = this.all.take(id);
  }

  begin(headers: readonly string[]): Duplex {
    this.answer.accept(headers);
    this.hasBegun = true;
    return this.upgrade.take();
  }

  opened(tunnel: WebSocketTunnel): void {
    this.all.opened(tunnel);
  }

  closed(tunnel: WebSocketTunnel): void {
    this.all.closed(tunnel);
    this.timing.requestBytes = tunnel.bytesUp;
    this.timing.answerBytes = tunnel.bytesDown;
  }

  [Symbol.dispose](): void {
    this.place?.[Symbol.dispose]();
  }
}
