import { createServer as createHttpServer, type IncomingMessage, type RequestListener } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net';
import { duplexPair, PassThrough, Readable, type Writable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Cancellation } from './cancellation.js';
import { Connections } from './connections.js';
import { exchangeHttp, type HttpRequest, type WebSocketCaller } from './http-exchange.js';
import { RequestBody } from './request-body.js';
import { OpenStreams, type WorkerAnswer } from './worker-client.js';

const HANDLER = { 'X-Faas-Runner': '1', 'X-Faas-Answer': '1' };
const FREE = { add: () => undefined };

interface Heard {
  status: number;
  headers: readonly string[];
  body: PassThrough;
}

describe('exchangeHttp', () => {
  let connections: Connections;
  let server: Server;
  let heard: Heard | undefined;
  const sockets = new Set<Socket>();

  const start = async (created: Server) => {
    server = created;
    server.on('connection', (socket: Socket) => {
      sockets.add(socket.on('error', () => undefined));
      socket.on('close', () => sockets.delete(socket));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    connections = new Connections({ kind: 'tcp', host: '127.0.0.1', port }, { guard: 'worker' });
  };
  const http = (listener: RequestListener) => start(createHttpServer(listener));

  beforeEach(() => {
    heard = undefined;
    sockets.clear();
  });
  afterEach(async () => {
    connections.close();
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });

  /** A request whose body arrives in these pieces. */
  const bodyOf = async (pieces: readonly Buffer[], length?: number) => {
    const headers = length === undefined ? { 'transfer-encoding': 'chunked' } : { 'content-length': String(length) };
    const body = new RequestBody(Object.assign(Readable.from(pieces), { headers }) as unknown as IncomingMessage);
    await body.begin(FREE);
    return body;
  };
  const call = async (
    options: {
      method?: string;
      body?: RequestBody;
      target?: string;
      headers?: readonly string[];
      timeoutMs?: number;
      idleMs?: number;
      cancellation?: Cancellation;
      sink?: Writable;
      webSocket?: WebSocketCaller;
      streams?: OpenStreams;
    } = {},
  ): Promise<WorkerAnswer> => {
    const body = options.body ?? (await bodyOf([], 0));
    const request: HttpRequest = {
      method: options.method ?? 'POST',
      target: options.target ?? '/a?b=c',
      mount: { root: '/f/shop' },
      headers: options.headers ?? ['host', 'shop.example', 'x-mine', '1'],
      body,
      payloadBytes: 1_000,
      idleMs: options.idleMs ?? 10_000,
      sink: {
        begin: (status, headers) => {
          heard = { status, headers, body: new PassThrough() };
          return options.sink ?? heard.body;
        },
      },
      webSocket: options.webSocket,
    };
    return exchangeHttp(connections, request, {
      functionId: 'aaaaaaaaaaaaaaaa',
      body: Buffer.alloc(0),
      requestId: 'request-1',
      timeoutMs: options.timeoutMs ?? 10_000,
      cancellation: options.cancellation ?? new Cancellation(),
      streams: options.streams,
    });
  };
  /** A worker that answers a request for a WebSocket with these lines. */
  const switching = async (...lines: string[]) => {
    const answering = createHttpServer();
    answering.on('upgrade', (_, socket) => {
      socket.write(['HTTP/1.1 101 Switching Protocols', 'Connection: upgrade', ...lines, '', ''].join('\r\n'));
      socket.on('data', (data: Buffer) => socket.end(data)).on('end', () => socket.end());
    });
    await start(answering);
  };
  const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
  const MARKED = ['Upgrade: websocket', 'X-Faas-Runner: 1', 'X-Faas-Answer: 1'];
  const ACCEPTED = 'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=';
  /** A client on the other end of what is returned first. */
  const askingFor = () => {
    const [client, end] = duplexPair();
    const begun: (readonly string[])[] = [];
    const webSocket: WebSocketCaller = {
      key: KEY,
      admit: () => undefined,
      begin: (headers) => {
        begun.push(headers);
        return end;
      },
      opened: () => undefined,
      closed: () => undefined,
    };
    return { client, begun, webSocket };
  };

  it('hands over the request and passes the answer on', async () => {
    const seen: unknown[] = [];
    await http((request, response) => {
      void text(request).then((body) => {
        const { host, 'x-mine': mine, 'x-faas-function': id, 'x-faas-payload-bytes': limit } = request.headers;
        seen.push(request.method, request.url, host, mine, id, limit, request.headers['content-length'], body);
        response.writeHead(418, { ...HANDLER, 'X-Kind': 'tea', 'Set-Cookie': ['a=1', 'b=2'] }).end('short');
      });
    });
    expect(await call({ method: 'PATCH', body: await bodyOf([Buffer.from('body')], 4) })).toMatchObject({
      kind: 'streamed',
    });
    expect(seen).toEqual(['PATCH', '/.http/a?b=c', 'shop.example', '1', 'aaaaaaaaaaaaaaaa', '1000', '4', 'body']);
    expect(heard!.status).toBe(418);
    expect(heard!.headers).toEqual(expect.arrayContaining(['x-kind', 'tea', 'a=1; Path=/f/shop', 'b=2; Path=/f/shop']));
    expect(await text(heard!.body)).toBe('short');
  });

  it('escapes bytes of the path that workers refuse', async () => {
    let seen: string | undefined;
    await http((request, response) => {
      seen = request.url;
      response.writeHead(200, HANDLER).end('x');
    });
    expect(await call({ target: '/gr\u00fc\u00df?a=\u00ff&b=%20{}' })).toMatchObject({ kind: 'streamed' });
    expect(seen).toBe('/.http/gr%FC%DF?a=%FF&b=%20{}');
  });

  it('takes a request that can’t be sent for the caller’s fault, and not for a worker’s', async () => {
    await http((_, response) => void response.writeHead(200, HANDLER).end('x'));
    expect(await call({ headers: ['host', 'shop.example', 'x-mine', 'a\u0001b'] })).toMatchObject({
      kind: 'unsendable',
      error: { code: 'invalid_request' },
    });
  });

  it('keeps the connection, after HEAD too', async () => {
    let opened = 0;
    await http((_, response) => void response.writeHead(200, HANDLER).end('x'));
    server.on('connection', () => (opened += 1));
    for (const method of ['POST', 'GET', 'HEAD', 'GET']) {
      expect(await call({ method })).toMatchObject({ kind: 'streamed' });
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(opened).toBeLessThan(3);
  });

  it('keeps what is no answer of the handler, for its meaning', async () => {
    await http((_, response) => void response.writeHead(404, { 'X-Faas-Runner': '1' }).end('{"detail":"Not Found"}'));
    const answer = await call();
    expect(answer).toEqual({ kind: 'answered', status: 404, body: Buffer.from('{"detail":"Not Found"}'), runner: '1' });
    expect(heard).toBeUndefined();
  });

  it('reads from a header what an answer to HEAD has no body to say', async () => {
    const own = { 'X-Faas-Runner': '1', 'X-Faas-Error': 'worker_draining' };
    await http((_, response) => void response.writeHead(503, own).end('{}'));
    expect(await call({ method: 'HEAD' })).toMatchObject({
      kind: 'answered',
      status: 503,
      body: Buffer.from('{"error":{"code":"worker_draining"}}'),
    });
    expect(await call({ method: 'GET' })).toMatchObject({ body: Buffer.from('{}') });
  });

  it('sends the rest of a large body once the worker has taken the call', async () => {
    const pieces = Array.from({ length: 8 }, (_, n) => Buffer.alloc(32 * 1024, String(n)));
    let before = 0;
    await http((request, response) => {
      request.on('data', (chunk: Buffer) => (before += chunk.length));
      setTimeout(() => {
        expect(before).toBeLessThan(100_000);
        request.removeAllListeners('data');
        response.writeProcessing();
        void buffer(request).then((rest) => response.writeHead(200, HANDLER).end(String(before + rest.length)));
      }, 100);
    });
    const body = await bodyOf(pieces);
    expect(await call({ body })).toMatchObject({ kind: 'streamed' });
    expect(await text(heard!.body)).toBe(String(8 * 32 * 1024));
    expect(body.isUsed).toBe(true);
  });

  it('sends it too once the answer has begun, without being asked', async () => {
    await http((request, response) => {
      response.writeHead(200, HANDLER).write('begun ');
      void buffer(request).then((all) => response.end(String(all.length)));
    });
    const body = await bodyOf(Array.from({ length: 8 }, () => Buffer.alloc(32 * 1024)));
    expect(await call({ body })).toMatchObject({ kind: 'streamed' });
    expect(await text(heard!.body)).toBe(`begun ${8 * 32 * 1024}`);
  });

  it('can send a large body elsewhere when a worker refuses the call', async () => {
    let calls = 0;
    await http((request, response) => {
      calls += 1;
      if (calls === 1) {
        response
          .writeHead(503, { 'X-Faas-Runner': '1', Connection: 'close' })
          .end('{"error":{"code":"worker_draining"}}');
        return;
      }
      response.writeProcessing();
      void buffer(request).then((all) => response.writeHead(200, HANDLER).end(String(all.length)));
    });
    const body = await bodyOf(Array.from({ length: 8 }, () => Buffer.alloc(32 * 1024)));
    expect(await call({ body })).toMatchObject({ kind: 'answered', status: 503 });
    expect(body.isUsed).toBe(false);
    expect(await call({ body })).toMatchObject({ kind: 'streamed' });
    expect(await text(heard!.body)).toBe(String(8 * 32 * 1024));
  });

  it('uses no connection again on which a body was left unsent', async () => {
    let opened = 0;
    await http((_, response) => void response.writeHead(413, HANDLER).end('too much'));
    server.on('connection', () => (opened += 1));
    for (const _ of [1, 2]) {
      const body = await bodyOf(Array.from({ length: 8 }, () => Buffer.alloc(32 * 1024)));
      expect(await call({ body })).toMatchObject({ kind: 'streamed' });
    }
    expect(opened).toBe(2);
  });

  it('reads no faster than the caller does, whose time is not the handler’s', async () => {
    let written = 0;
    await http((_, response) => {
      response.writeHead(200, HANDLER);
      const more = () => {
        while (written < 16 * 1024 * 1024) {
          written += 65_536;
          if (!response.write(Buffer.alloc(65_536))) return void response.once('drain', more);
        }
        response.end();
      };
      more();
    });
    const slow = new PassThrough();
    const answer = call({ timeoutMs: 4_000, idleMs: 4_000, sink: slow });
    await delay(5_000);
    expect(written).toBeLessThan(15 * 1024 * 1024);
    expect((await buffer(slow)).length).toBe(16 * 1024 * 1024);
    expect(await answer).toMatchObject({ kind: 'streamed' });
  });

  it.each([
    ['goes on for ever', { timeoutMs: 300, idleMs: 10_000 }, true],
    ['says nothing more', { timeoutMs: 60_000, idleMs: 200 }, false],
  ])('ends an answer that %s', async (_, limits, goesOn) => {
    await http((_request, response) => {
      response.writeHead(200, HANDLER).write('first');
      const timer = setInterval(() => goesOn && response.write('more'), 20);
      response.on('close', () => clearInterval(timer));
    });
    expect(await call(limits)).toEqual({ kind: 'timed_out', idleMs: goesOn ? undefined : limits.idleMs });
    expect(heard!.body.destroyed).toBe(true);
  });

  it('gives up an answer that is cancelled, and frees the connection', async () => {
    const closed = vi.fn();
    await http((_, response) => {
      response.on('close', closed).writeHead(200, HANDLER).write('first');
    });
    const cancellation = new Cancellation();
    const answer = call({ cancellation });
    await vi.waitFor(() => expect(heard).toBeDefined());
    cancellation.cancel();
    expect(await answer).toEqual({ kind: 'cancelled' });
    await vi.waitFor(() => expect(closed).toHaveBeenCalled());
  });

  it('breaks off what its worker breaks off', async () => {
    await http((_, response) => {
      response.writeHead(200, { ...HANDLER, 'Content-Length': '10' }).write('first', () => response.destroy());
    });
    expect(await call()).toMatchObject({ kind: 'broken_off' });
    expect(heard!.body.destroyed).toBe(true);
  });

  it('sends no head that is none', async () => {
    const large = { ...HANDLER, 'X-Large': 'y'.repeat(20_000) };
    await http((_, response) => void response.writeHead(200, large).end('x'));
    expect(await call()).toMatchObject({ kind: 'invalid' });
    server.close();
    await http((_, response) => {
      for (let n = 0; n < 200; n += 1) response.setHeader(`x-${n}`, 'y');
      response.writeHead(200, HANDLER).end('x');
    });
    expect(await call()).toMatchObject({ kind: 'invalid' });
    expect(heard).toBeUndefined();
  });

  it('joins a caller and a worker that accepts its WebSocket, until the worker ends', async () => {
    await switching(...MARKED, ACCEPTED, 'X-Mine: 1', 'Content-Length: 5', 'Sec-WebSocket-Extensions: x');
    const { client, begun, webSocket } = askingFor();
    const streams = new OpenStreams();
    const answer = call({ method: 'GET', webSocket, streams });
    client.resume();
    await vi.waitFor(() => expect(streams.webSockets).toBe(1));
    expect(begun[0]).toEqual(expect.arrayContaining(['x-mine', '1']));
    for (const name of ['x-faas-runner', 'content-length', 'sec-websocket-extensions']) {
      expect(begun[0]).not.toContain(name);
    }
    // A closing frame, which this worker sends back.
    client.write(Buffer.from([0x88, 0]));
    expect(await answer).toMatchObject({ kind: 'streamed' });
    expect(streams.webSockets).toBe(0);
  });

  it.each([
    ['without the handler’s mark', ['Upgrade: websocket', 'X-Faas-Runner: 1', ACCEPTED]],
    ['with the answer to another key', [...MARKED, 'Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=']],
    ['with no answer to the key', MARKED],
  ])('joins nobody with a worker that switches %s', async (_, lines) => {
    await switching(...lines);
    const { begun, webSocket } = askingFor();
    expect(await call({ method: 'GET', webSocket })).toMatchObject({ kind: 'given_up' });
    expect(begun).toEqual([]);
    await vi.waitFor(() => expect(sockets.size).toBe(0));
  });

  it('takes an acceptance that can’t be sent for the handler’s fault', async () => {
    await switching(...MARKED, ACCEPTED);
    const begin = () => {
      throw new TypeError('Invalid character in header content');
    };
    const webSocket = { ...askingFor().webSocket, begin };
    expect(await call({ method: 'GET', webSocket })).toMatchObject({ kind: 'invalid' });
  });

  it('passes an answer on that is none to a WebSocket, and takes no other worker’s', async () => {
    await http((_, response) => void response.writeHead(403, HANDLER).end('no'));
    expect(await call({ method: 'GET', webSocket: askingFor().webSocket })).toMatchObject({ kind: 'streamed' });
    expect(heard!.status).toBe(403);
    await new Promise((resolve) => {
      server.close(resolve);
      connections.close();
    });
    await switching('Upgrade: websocket', ACCEPTED);
    expect(await call({ method: 'GET', webSocket: askingFor().webSocket })).toMatchObject({ kind: 'cut_off' });
  });

  it('tells another worker at its address, and one that nobody reaches', async () => {
    await http((_, response) => void response.end('another'));
    expect(await call()).toMatchObject({ kind: 'cut_off', runner: undefined });
    await new Promise((resolve) => server.close(resolve));
    await start(createTcpServer((socket) => socket.destroy()));
    expect(await call()).toMatchObject({ kind: 'cut_off' });
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    connections = new Connections({ kind: 'tcp', host: '127.0.0.1', port });
    expect(await call()).toMatchObject({ kind: 'not_sent' });
    await start(createTcpServer());
  });
});
