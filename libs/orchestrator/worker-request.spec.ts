import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, it } from 'vitest';
import { requestOfWorker } from './worker-request.js';
import type { EndpointAddress } from './workload.js';

let server: Server | undefined;

async function answering(listener: RequestListener): Promise<EndpointAddress> {
  server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { kind: 'tcp', host: '127.0.0.1', port: (server.address() as AddressInfo).port };
}

afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

describe('a request of a worker', () => {
  it('carries method, path, headers and body, and brings status and body back', async () => {
    const address = await answering((request, response) => {
      void text(request).then((body) => {
        const { method, url, headers } = request;
        response.writeHead(202).end(JSON.stringify({ method, url, of: headers['x-of'], body }));
      });
    });
    const asked = { address, path: '/there', headers: { 'X-Of': 'me' }, timeoutMs: 5_000 };
    const { status, body } = await requestOfWorker({ ...asked, method: 'POST', body: 'ö' });
    expect(status).toBe(202);
    expect(JSON.parse(body.toString())).toEqual({ method: 'POST', url: '/there', of: 'me', body: 'ö' });
    expect(JSON.parse((await requestOfWorker(asked)).body.toString())).toMatchObject({ method: 'GET', body: '' });
  });

  it('takes an answer with a hint ahead of it', async () => {
    const address = await answering((_, response) => {
      response.writeEarlyHints({ link: '</a>; rel=preload' });
      response.end('late');
    });
    expect(String((await requestOfWorker({ address, path: '/', timeoutMs: 5_000 })).body)).toBe('late');
  });

  it('ends with its caller’s reason, whether that leaves before or meanwhile', async () => {
    const address = await answering(() => undefined);
    const leaving = new AbortController();
    const asked = { address, path: '/', timeoutMs: 60_000, signal: leaving.signal };
    const asking = requestOfWorker(asked);
    const reason = new Error('I leave');
    leaving.abort(reason);
    await expect(asking).rejects.toBe(reason);
    await expect(requestOfWorker(asked)).rejects.toBe(reason);
  });

  it('fails when it can’t be made at all', async () => {
    const address = { kind: 'tcp', host: '127.0.0.1', port: 1 } as const;
    await expect(requestOfWorker({ address, path: '/', timeoutMs: 5_000 })).rejects.toThrow('ECONNREFUSED');
    const strange = requestOfWorker({ address, path: '/', headers: { X: 'a\nb' }, timeoutMs: 5_000 });
    await expect(strange).rejects.toThrow('header');
  });
});
