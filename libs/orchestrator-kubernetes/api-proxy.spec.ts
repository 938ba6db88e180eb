import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { once } from 'node:events';
import { type IncomingMessage, request as nodeRequest } from 'node:http';
import { dirname } from 'node:path';
import { json } from 'node:stream/consumers';
import { Client, type Dispatcher } from 'undici';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { ApiProxy } from './api-proxy.js';
import { refuse, ScriptedApi } from './testing/scripted-api.js';

let server: ScriptedApi;
let proxy: ApiProxy;
let present: Set<string>;
const clients: Client[] = [];

afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.destroy()));
  proxy.closeAll();
  server.close();
});

async function proxyTo(answer: Parameters<typeof ScriptedApi.open>[0]): Promise<void> {
  server = await ScriptedApi.open(answer);
  present = new Set(['pod-a', 'pod-b']);
  proxy = new ApiProxy(server.access, 'functions', (pod) => present.has(pod));
}

function pathTo(pod: string): string {
  const address = proxy.to(pod);
  if (address.kind !== 'unix') throw new Error('The gate is no socket.');
  return address.path;
}

function clientTo(pod: string): Client {
  const client = new Client('http://worker', { connect: { socketPath: pathTo(pod) } });
  clients.push(client);
  return client;
}

function call(options: Partial<Dispatcher.RequestOptions> = {}): Promise<Dispatcher.ResponseData> {
  return clientTo('pod-a').request({ path: '/', method: 'POST', body: '{"payload":"x"}', ...options });
}

const gates = () => ['pod-a', 'pod-b'].map(pathTo).filter((path) => existsSync(path)).length;

describe('ApiProxy', () => {
  it('takes a call to the pod through the API server, as whom the kubeconfig says', async () => {
    await proxyTo((asked, response) => {
      response.writeHead(200, { 'x-faas-runner': '7' }).end(asked.body);
    });
    const { statusCode, headers, body } = await call({
      path: '/a?b=c',
      headers: { 'x-call': '1', 'x-faas-token': "a-pod's", authorization: 'ours' },
    });
    expect([statusCode, headers['x-faas-runner'], await body.text()]).toEqual([200, '7', '{"payload":"x"}']);
    const [asked] = server.asked;
    expect(asked?.url.pathname + asked!.url.search).toBe('/api/v1/namespaces/functions/pods/pod-a:8000/proxy/a?b=c');
    expect(asked).toMatchObject({
      method: 'POST',
      headers: { 'x-call': '1', 'x-faas-token': "a-pod's", authorization: 'Bearer the-token' },
    });
  });

  it.each([200, 400, 404, 409, 422, 500, 503])('passes a worker’s own %d on, word for word', async (status) => {
    const said = JSON.stringify({ detail: 'dial tcp: connection refused', kind: 'Status' });
    await proxyTo((_asked, response) => void response.writeHead(status).end(said));
    const { statusCode, body } = await call();
    expect([statusCode, await body.text()]).toEqual([status, said]);
  });

  it.each([
    [503, 'error trying to reach service: dial tcp 10.0.0.5:8000: connect: connection refused'],
    [503, 'error trying to reach service: dial tcp 10.0.0.5:8000: i/o timeout'],
    [404, 'pods "pod-a" not found'],
    [401, 'Unauthorized'],
    [403, 'pods "pod-a" is forbidden: cannot create resource "pods/proxy"'],
    [429, 'too many requests'],
  ])('says of a %d of the API server itself that the call never left: %s', async (status, message) => {
    await proxyTo((_asked, response) => refuse(response, status, '', message));
    const { statusCode, body } = await call();
    expect(statusCode).toBe(503);
    expect(await body.json()).toMatchObject({ error: { code: 'worker_draining' } });
  });

  it('says the same when the API server is too busy to write a Status', async () => {
    await proxyTo((_asked, response) => {
      response.writeHead(429, { 'retry-after': '1' }).end('Too many requests, please try again later.\n');
    });
    expect((await call()).statusCode).toBe(503);
  });

  it.each<[string, Parameters<typeof ScriptedApi.open>[0]]>([
    ['lost the pod on the way', (_asked, response) => refuse(response, 503, '', 'error trying to reach service: EOF')],
    ['hung up', (_asked, response) => void response.destroy()],
    ['broke off', (_asked, response) => void response.writeHead(200).write('{"res', () => response.destroy())],
  ])('breaks the connection when the API server %s: the call may have arrived', async (_what, answer) => {
    await proxyTo(answer);
    await expect(call().then(({ body }) => body.text())).rejects.toThrow();
  });

  it('ends the call on the far side when the caller leaves', async () => {
    const left = Promise.withResolvers<void>();
    const arrived = Promise.withResolvers<void>();
    await proxyTo((_asked, response) => {
      response.once('close', () => left.resolve());
      arrived.resolve();
    });
    const leaving = new AbortController();
    const calling = call({ signal: leaving.signal });
    await arrived.promise;
    leaving.abort();
    await expect(calling).rejects.toThrow();
    await left.promise;
  });

  it('sends no call of which only a part came', async () => {
    await proxyTo((_asked, response) => void response.end());
    const outgoing = nodeRequest({ socketPath: pathTo('pod-a'), method: 'POST', headers: { 'content-length': 100 } });
    const ended = new Promise((resolve) => outgoing.once('error', resolve));
    outgoing.write('half', () => outgoing.destroy(new Error('gone')));
    await ended;
    const { statusCode } = await call();
    expect(statusCode).toBe(200);
    expect(server.asked).toHaveLength(1);
  });

  it('carries large bodies both routing, byte for byte', async () => {
    await proxyTo((asked, response) => void response.end(asked.body));
    const large = randomBytes(3 * 1024 * 1024).toString('hex');
    const { body } = await call({ body: large });
    expect((await body.text()) === large).toBe(true);
  });

  it('has one gate for each pod, and closes those of pods that are gone', async () => {
    await proxyTo((asked, response) => void response.end(asked.url.pathname));
    expect(pathTo('pod-a')).toBe(pathTo('pod-a'));
    expect(gates()).toBe(2);
    const former = pathTo('pod-a');
    present.delete('pod-a');
    proxy.to('pod-c');
    await vi.waitFor(() => expect(existsSync(former)).toBe(false));
    expect(await (await clientTo('pod-b').request({ path: '/', method: 'GET' })).body.text()).toContain('pod-b');
  });

  it('refuses WebSockets, in words of a worker', async () => {
    await proxyTo((_asked, response) => void response.end());
    const headers = { connection: 'upgrade', upgrade: 'websocket' };
    const outgoing = nodeRequest({ socketPath: pathTo('pod-a'), path: '/.http/', headers }).end();
    const [answer] = (await once(outgoing, 'response')) as [IncomingMessage];
    expect(answer).toMatchObject({ statusCode: 400, headers: { 'x-faas-runner': '0' } });
    expect(await json(answer)).toMatchObject({ error: { code: 'websocket_unsupported' } });
    expect(server.asked).toEqual([]);
  });

  it('leaves nothing behind', async () => {
    await proxyTo((_asked, response) => void response.end());
    const folder = dirname(pathTo('pod-a'));
    proxy.closeAll();
    expect(existsSync(folder)).toBe(false);
  });
});
