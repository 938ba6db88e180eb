import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Container } from './container.js';
import type { LogLine } from './log.js';

const PATH = /^\/containerLogs\/([^/]+)\/([^/]+)\/([^/]+)$/;

/** The part of the kubelet's API from which the API server takes the logs of pods. */
export class LogServer {
  private readonly server: Server;

  constructor(
    certificate: { readonly cert: string; readonly key: string },
    private readonly containersOf: (namespace: string, pod: string) => readonly Container[],
  ) {
    this.server = createServer(certificate, (request, response) => this.answer(request, response));
  }

  /** Answers its port. */
  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    return (this.server.address() as { port: number }).port;
  }

  close(): void {
    this.server.close();
    this.server.closeAllConnections();
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'https://node');
    const [, namespace = '', pod = '', name = ''] = PATH.exec(pathname) ?? [];
    const container = this.containersOf(namespace, pod).find(({ view }) => view.name === name);
    const isPrevious = searchParams.get('previous') === 'true';
    const log = container?.log(isPrevious);
    if (log === undefined) {
      const state = container?.view.state;
      const waits = `is waiting to start: ${state?.kind === 'waiting' ? state.reason : 'ContainerCreating'}`;
      const why = isPrevious
        ? `previous terminated container "${name}" in pod "${pod}" not found`
        : `container "${name}" in pod "${pod}" ${waits}`;
      response.writeHead(400, { 'content-type': 'text/plain' }).end(why);
      return;
    }
    const hasTime = searchParams.get('timestamps') === 'true';
    const write = ({ at, text }: LogLine) => response.write(`${hasTime ? `${at} ` : ''}${text}\n`);
    const tail = searchParams.get('tailLines');
    response.writeHead(200, { 'content-type': 'text/plain' });
    response.flushHeaders();
    for (const line of log.tail(tail === null ? Infinity : Number(tail))) if (isSince(line, searchParams)) write(line);
    if (searchParams.get('follow') !== 'true' || log.ended) {
      response.end();
      return;
    }
    response.once(
      'close',
      log.follow(write, () => response.end()),
    );
  }
}

function isSince({ at }: LogLine, query: URLSearchParams): boolean {
  const seconds = query.get('sinceSeconds');
  const since = seconds === null ? Date.parse(query.get('sinceTime') ?? '') : Date.now() - Number(seconds) * 1000;
  return !(Date.parse(at) < since);
}
