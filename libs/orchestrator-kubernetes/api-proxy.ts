import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { HttpMethod, RequestContext } from '@kubernetes/client-node';
import { type Dispatcher, request } from 'undici';
import type { EndpointAddress } from '#libs/orchestrator/workload.js';
import type { ClusterAccess } from './cluster-access.js';
import { WORKER_PORT } from './names.js';

const HOP_BY_HOP = new Set(['connection', 'host', 'keep-alive', 'transfer-encoding', 'content-length', 'expect']);
/** The text of an overloaded API server: the only answer of its own that is no `Status`. */
const TOO_BUSY = 'Too many requests, please try again later.';
/** Given by the API server itself, these mean that it passed nothing on: no access, no such pod, too busy. */
const NOT_PASSED_ON = new Set([401, 403, 404, 429]);

/** Our worker answers so for a call that it never ran, and the proxy for one that it never sent. */
const NEVER_SENT = JSON.stringify({
  detail: 'The pod could not be reached through the API server.',
  error: { code: 'worker_draining' },
});

const NO_WEB_SOCKET = JSON.stringify({
  detail: 'No WebSocket gets to a pod through the API server (KUBERNETES_REACH).',
  error: { code: 'websocket_unsupported' },
});

/**
 * Reaches pods through the API server's proxy, for a manager outside the cluster: listens on a socket for each pod, in a
 * folder that only this user may enter.
 */
export class ApiProxy {
  private readonly folder = mkdtempSync(join(tmpdir(), 'faas-pods-'));
  private readonly gates = new Map<string, { readonly server: Server; readonly path: string }>();
  private opened = 0;

  constructor(
    private readonly access: ClusterAccess,
    private readonly namespace: string,
    private readonly isThere: (pod: string) => boolean,
  ) {}

  /** The socket of one pod, opened on first use. */
  to(pod: string): EndpointAddress {
    const known = this.gates.get(pod);
    if (known !== undefined) return { kind: 'unix', path: known.path };
    const path = join(this.folder, `${(this.opened += 1)}.sock`);
    const server = createServer((incoming, outgoing) => void this.pass(pod, incoming, outgoing));
    server.on('error', () => this.close(pod));
    server.listen(path);
    server.unref();
    this.gates.set(pod, { server, path });
    for (const other of [...this.gates.keys()]) if (other !== pod && !this.isThere(other)) this.close(other);
    return { kind: 'unix', path };
  }

  closeAll(): void {
    for (const pod of [...this.gates.keys()]) this.close(pod);
    rmSync(this.folder, { recursive: true, force: true });
  }

  private close(pod: string): void {
    this.gates.get(pod)?.server.close();
    this.gates.delete(pod);
  }

  private async pass(pod: string, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    if (incoming.headers.upgrade !== undefined) {
      outgoing.writeHead(400, { 'content-type': 'application/json', 'x-faas-runner': '0' }).end(NO_WEB_SOCKET);
      return;
    }
    const leaving = new AbortController();
    outgoing.once('close', () => leaving.abort());
    try {
      const answer = await this.forward(pod, incoming, leaving.signal);
      if (answer.statusCode >= 400 && (await this.isOfTheApiServer(answer, outgoing))) return;
      outgoing.writeHead(answer.statusCode, passedOn(answer.headers));
      await pipeline(answer.body, outgoing);
    } catch {
      // Whether the call arrived isn't known: a broken connection says just that.
      outgoing.destroy();
    }
  }

  private async forward(pod: string, incoming: IncomingMessage, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    const method = (incoming.method ?? 'GET') as HttpMethod;
    const path = `/api/v1/namespaces/${this.namespace}/pods/${pod}:${WORKER_PORT}/proxy${incoming.url ?? '/'}`;
    const context = new RequestContext(this.access.server.replace(/\/$/, '') + path, method);
    await this.access.applySecurityAuthentication(context);
    const dispatcher = context.getDispatcher();
    // The kubeconfig alone gives the credentials.
    const { authorization: _, ...rest } = incoming.headers;
    const body = Buffer.concat(await incoming.toArray());
    return request(context.getUrl(), {
      method: method as Dispatcher.HttpMethod,
      headers: { ...(passedOn(rest) as Record<string, string>), ...context.getHeaders() },
      ...(body.length > 0 && { body }),
      ...(dispatcher !== undefined && { dispatcher }),
      signal,
      headersTimeout: 0,
      bodyTimeout: 0,
    });
  }

  /**
   * An answer of the API server itself, which no worker's answer looks like. That it couldn't connect, or wouldn't, means that
   * nothing was sent, and that the caller may try another pod.
   */
  private async isOfTheApiServer(answer: Dispatcher.ResponseData, outgoing: ServerResponse): Promise<boolean> {
    const body = Buffer.from(await answer.body.arrayBuffer());
    if (!isStatus(body) && !body.toString().startsWith(TOO_BUSY)) {
      outgoing.writeHead(answer.statusCode, passedOn(answer.headers));
      outgoing.end(body);
      return true;
    }
    const neverSent = NOT_PASSED_ON.has(answer.statusCode) || /dial tcp|connection refused/.test(body.toString());
    if (!neverSent) throw new Error('cut off');
    outgoing.writeHead(503, { 'content-type': 'application/json' });
    outgoing.end(NEVER_SENT);
    return true;
  }
}

function isStatus(body: Buffer): boolean {
  try {
    const said = JSON.parse(body.toString()) as { kind?: unknown; apiVersion?: unknown } | null;
    return said?.kind === 'Status' && said.apiVersion === 'v1';
  } catch {
    return false;
  }
}

function passedOn(headers: Readonly<Record<string, string | string[] | undefined>>): Record<string, string | string[]> {
  const kept = Object.entries(headers).filter(([name, value]) => value !== undefined && !HOP_BY_HOP.has(name));
  return Object.fromEntries(kept) as Record<string, string | string[]>;
}
