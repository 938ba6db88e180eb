import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ClusterAccess } from '../cluster-access.js';

interface Asked {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

type Answer = (asked: Asked, response: ServerResponse, request: IncomingMessage) => void | Promise<void>;

/** An HTTP server in an API server's place that answers as a test says, and how to get at it. */
export class ScriptedApi {
  readonly asked: Asked[] = [];
  readonly access = new ClusterAccess();

  private constructor(
    private readonly server: ReturnType<typeof createServer>,
    port: number,
  ) {
    this.access.loadFromOptions({
      clusters: [{ name: 'local', server: `http://127.0.0.1:${port}`, skipTLSVerify: true }],
      users: [{ name: 'manager', token: 'the-token' }],
      contexts: [{ name: 'local', cluster: 'local', user: 'manager' }],
      currentContext: 'local',
    });
  }

  static async open(answer: Answer): Promise<ScriptedApi> {
    const server = createServer((request, response) => {
      void (async () => {
        const body = Buffer.concat(await request.toArray()).toString();
        const url = new URL(request.url ?? '/', 'http://api');
        const asked = { method: request.method ?? '', url, headers: request.headers, body };
        api.asked.push(asked);
        await answer(asked, response, request);
      })().catch(() => response.destroy());
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const api = new ScriptedApi(server, (server.address() as AddressInfo).port);
    return api;
  }

  close(): void {
    this.access.close();
    this.server.closeAllConnections();
    this.server.close();
  }
}

export function json(response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}) {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
}

/** An API server's refusal. */
export function refuse(response: ServerResponse, code: number, reason: string, message: string): void {
  json(response, code, { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message });
}
