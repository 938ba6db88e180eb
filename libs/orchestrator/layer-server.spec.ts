import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import { fetchedLayer, LayerServer } from './layer-server.js';
import type { Layer } from './layers.js';
import { TEST_TOKENS } from './testing/tokens.js';

const [ONE, TWO, GONE] = ['a', 'b', 'c'].map((letter) => letter.repeat(64)) as [string, string, string];
const silent = pino({ level: 'silent' });

function layerWith(digest: string, archive: () => Readable): Layer {
  return {
    digest,
    open: () => (digest === GONE ? Promise.reject(new Error('gone')) : Promise.resolve(archive())),
    describe: () => Promise.resolve({ sha256: createHash('sha256').update(digest).digest('hex'), bytes: 1, files: 2 }),
  };
}

describe('LayerServer', () => {
  let server: LayerServer | undefined;
  afterEach(() => server?.close());

  async function open(archive: (digest: string) => Readable = (digest) => Readable.from([Buffer.from(digest)])) {
    const layer = (digest: string) => layerWith(digest, () => archive(digest));
    server = await LayerServer.listen({ host: '127.0.0.1', port: 0 }, TEST_TOKENS, layer, silent);
    return `http://127.0.0.1:${server.port}`;
  }

  const ask = (url: string, digest: string, token: string, init: RequestInit = {}) =>
    fetch(`${url}/layers/${digest}`, { headers: { Authorization: `Bearer ${token}` }, ...init });

  it('hands a layer to whoever is told of it', async () => {
    const url = await open();
    const told = await fetchedLayer(
      layerWith(ONE, () => Readable.from([])),
      url,
      TEST_TOKENS,
      AbortSignal.timeout(1),
    );
    expect(told).toMatchObject({ digest: ONE, url: `${url}/layers/${ONE}`, bytes: 1, files: 2 });
    const answer = await fetch(told.url, { headers: { Authorization: `Bearer ${told.token}` } });
    expect([answer.status, await answer.text()]).toEqual([200, ONE]);
  });

  it('opens no layer by the token of another, nor by one of a worker, and tells nobody which ones there are', async () => {
    const url = await open();
    for (const digest of [ONE, GONE]) {
      for (const token of [TEST_TOKENS.forLayer(TWO), TEST_TOKENS.issue(digest).token, '']) {
        expect((await ask(url, digest, token)).status).toBe(403);
      }
      expect((await fetch(`${url}/layers/${digest}`)).status).toBe(403);
    }
  });

  it('serves nothing else', async () => {
    const url = await open();
    const token = TEST_TOKENS.forLayer(ONE);
    for (const path of ['/', '/functions', '/livez', '/layers', `/layers/${ONE}/`, `/layers/${ONE.toUpperCase()}`]) {
      const answer = await fetch(`${url}${path}`, { headers: { Authorization: `Bearer ${token}` } });
      expect([path, answer.status]).toEqual([path, 404]);
    }
    expect((await ask(url, ONE, token, { method: 'POST' })).status).toBe(404);
  });

  it('has whoever comes too early, or finds no place, come again', async () => {
    const url = await open();
    expect((await ask(url, GONE, TEST_TOKENS.forLayer(GONE))).status).toBe(503);
    server?.close();

    const endless = await open(() => Readable.from(forEver()));
    const leaving = new AbortController();
    const token = TEST_TOKENS.forLayer(ONE);
    const taken = Array.from({ length: 8 }, () => ask(endless, ONE, token, { signal: leaving.signal }));
    for (const answer of await Promise.all(taken)) expect(answer.status).toBe(200);
    const refused = await ask(endless, ONE, token);
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1']);
    leaving.abort();
    // The place of one that has gone is free again.
    await expect
      .poll(async () => {
        const answer = await ask(endless, ONE, token);
        await answer.body?.cancel();
        return answer.status;
      })
      .toBe(200);
  });

  it('leaves room for others, however many connections one address opens', async () => {
    const url = new URL(await open());
    const sockets = Array.from({ length: 40 }, () => connect(Number(url.port), '127.0.0.1'));
    const ended = sockets.map((socket) =>
      once(
        socket.on('error', () => undefined),
        'close',
      ),
    );
    await expect.poll(() => sockets.filter(({ closed }) => closed).length).toBe(24);
    const other = request({ host: '127.0.0.1', port: url.port, localAddress: '127.0.0.2', path: '/' }).end();
    const [answer] = (await once(other, 'response')) as [IncomingMessage];
    expect(answer.resume().statusCode).toBe(404);
    for (const socket of sockets) socket.destroy();
    await Promise.all(ended);
  });

  it('breaks off what breaks off, so that nobody takes it for whole', async () => {
    const url = await open(() => Readable.from(broken()));
    const answer = await ask(url, ONE, TEST_TOKENS.forLayer(ONE));
    await expect(answer.text()).rejects.toThrow();
  });
});

async function* forEver(): AsyncGenerator<Buffer> {
  for (;;) yield await Promise.resolve(Buffer.alloc(65_536));
}

async function* broken(): AsyncGenerator<Buffer> {
  yield await Promise.resolve(Buffer.from('half'));
  throw new Error('the database is away');
}
