import { afterEach, describe, expect, it, vi } from 'vitest';
import { once } from 'node:events';
import { Agent, createServer, request, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { GracefulShutdown } from './graceful-shutdown.js';
import { noteResponse } from './newest-response.js';

describe('a graceful shutdown', () => {
  const agent = new Agent({ keepAlive: true });
  const shutdown = new GracefulShutdown();
  const waiting: ServerResponse[] = [];
  const server = createServer(
    shutdown.wrap((message, response) => {
      noteResponse(response);
      if (message.url === '/slow') waiting.push(response);
      else response.writeHead(200, ['Content-Length', '2']).end('ok');
    }),
  );
  shutdown.watch(server);
  afterEach(() => {
    agent.destroy();
    server.close();
  });

  async function get(path: string): Promise<string | undefined> {
    const { port } = server.address() as AddressInfo;
    const [answer] = (await once(request({ port, path, agent }).end(), 'response')) as [IncomingMessage];
    answer.resume();
    await once(answer, 'end');
    return answer.headers.connection;
  }

  it('closes the connection of every later answer and of calls in flight, and of no earlier one', async () => {
    await once(server.listen(0, '127.0.0.1'), 'listening');
    expect(await get('/')).toBe('keep-alive');
    const inFlight = get('/slow');
    await vi.waitFor(() => expect(waiting).toHaveLength(1));
    shutdown.begin();
    expect(await get('/')).toBe('close');
    waiting[0]?.writeHead(200, ['Content-Length', '2']).end('ok');
    expect(await inFlight).toBe('close');
  });
});
