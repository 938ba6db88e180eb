import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net';
import { PassThrough, type Writable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { MemoryExhausted } from '../memory/memory-budget.js';
import { Cancellation } from './cancellation.js';
import { Connections, type Protection } from './connections.js';
import { isResult } from './worker-answer.js';
import { callWorker, type WorkerAnswer } from './worker-client.js';

const BODY = Buffer.from('{"payload":"x"}');

describe('callWorker', () => {
  let connections: Connections;
  let server: Server;
  const sockets = new Set<Socket>();

  const start = async (created: Server, protection: Protection = {}) => {
    server = created;
    server.on('connection', (socket: Socket) => {
      sockets.add(socket.on('error', () => undefined));
      socket.on('close', () => sockets.delete(socket));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    connections = new Connections({ kind: 'tcp', host: '127.0.0.1', port }, protection);
  };
  const http = (listener: RequestListener) => start(createHttpServer(listener));
  const tcp = (onSocket: (socket: Socket) => void) => start(createTcpServer(onSocket));

  const call = (options: { timeoutMs?: number; cancellation?: Cancellation } = {}): Promise<WorkerAnswer> =>
    callWorker(connections, {
      body: BODY,
      functionId: 'aaaaaaaaaaaaaaaa',
      requestId: 'request-1',
      timeoutMs: options.timeoutMs ?? 10_000,
      cancellation: options.cancellation ?? new Cancellation(),
    });

  beforeEach(() => sockets.clear());
  afterEach(async () => {
    connections.close();
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });

  it('passes body, request id and time limit on, and the answer back, byte for byte', async () => {
    const seen: unknown[] = [];
    await http((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const { 'x-request-id': id, 'x-faas-timeout-ms': limit, 'content-type': type } = request.headers;
        seen.push(request.method, request.url, id, limit, type, Buffer.concat(chunks).toString());
        response.writeHead(418, { 'X-Faas-Runner': '1' });
        response.write('{"result"');
        response.end(':"ü"}');
      });
    });
    const answer = await call({ timeoutMs: 4_321 });
    expect(answer).toEqual({ kind: 'answered', status: 418, body: Buffer.from('{"result":"ü"}') });
    expect(seen).toEqual(['POST', '/', 'request-1', '4321', 'application/json', BODY.toString()]);
  });

  it('shows the replica the token that it answers to, and nothing where it has none', async () => {
    const shown: unknown[] = [];
    const answer: RequestListener = (request, response) => {
      shown.push(request.headers['x-faas-token']);
      request.resume().on('end', () => response.end('{"result":1}'));
    };
    await start(createHttpServer(answer), { token: 'its own' });
    await call();
    server.close();
    await start(createHttpServer(answer));
    await call();
    expect(shown).toEqual(['its own', undefined]);
  });

  it('takes no answer from an image that has the address of a worker of ours by now', async () => {
    const answer =
      (headers: Record<string, string>): RequestListener =>
      (request, response) => {
        request.resume().on('end', () => response.writeHead(200, headers).end('{"result":"another function\'s"}'));
      };
    await start(createHttpServer(answer({})), { guard: 'worker' });
    expect(await call()).toEqual({ kind: 'cut_off', reason: expect.any(String) as string, runner: undefined });
    server.close();
    await start(createHttpServer(answer({ 'X-Faas-Runner': '1' })), { guard: 'worker' });
    expect(await call()).toMatchObject({ kind: 'answered', status: 200 });
  });

  it('says that nothing was sent when the replica refuses the connection', async () => {
    await http(() => undefined);
    await new Promise((resolve) => server.close(resolve));
    expect(await call()).toMatchObject({ kind: 'not_sent', reason: expect.stringContaining('ECONNREFUSED') as string });
  });

  it('never says that nothing was sent when the connection breaks after the call was read', async () => {
    await tcp((socket) => socket.once('data', () => socket.resetAndDestroy()));
    expect(await call()).toMatchObject({ kind: 'cut_off' });
  });

  it('never says that nothing was sent when a reused socket closes under the call', async () => {
    let calls = 0;
    await http((request, response) => {
      calls += 1;
      if (calls === 1) response.writeHead(200, { 'X-Faas-Runner': '1' }).end('{}');
      else request.socket.destroy();
    });
    expect(await call()).toMatchObject({ kind: 'answered' });
    expect(await call()).toEqual({ kind: 'cut_off', reason: expect.any(String) as string, runner: '1' });
    expect(calls).toBe(2);
  });

  it('says cut off when the answer ends in its middle', async () => {
    await tcp((socket) =>
      socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"result":')),
    );
    expect(await call()).toMatchObject({ kind: 'cut_off' });
  });

  it.each(['not HTTP at all\r\n\r\n', 'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n'])(
    'says cut off when the answer is no HTTP: %j',
    async (nonsense) => {
      await tcp((socket) => socket.once('data', () => socket.write(nonsense)));
      expect(await call()).toMatchObject({ kind: 'cut_off' });
    },
  );

  it('ends a call at its time limit, and its socket with it', async () => {
    await http(() => undefined);
    const began = performance.now();
    expect(await call({ timeoutMs: 80 })).toEqual({ kind: 'timed_out' });
    expect(performance.now() - began).toBeLessThan(2_000);
    await expect.poll(() => sockets.size).toBe(0);
  });

  it('counts an answer that never ends against the time limit', async () => {
    await http((_, response) => void response.writeHead(200).write('{'));
    expect(await call({ timeoutMs: 80 })).toEqual({ kind: 'timed_out' });
  });

  it('ends a call whose caller left, before, while and after it is sent', async () => {
    const arrived = Promise.withResolvers<void>();
    await http(() => arrived.resolve());
    const gone = new Cancellation();
    gone.cancel();
    expect(await call({ cancellation: gone })).toEqual({ kind: 'cancelled' });
    const early = new Cancellation();
    const atOnce = call({ cancellation: early });
    early.cancel();
    expect(await atOnce).toEqual({ kind: 'cancelled' });
    const late = new Cancellation();
    const inFlight = call({ cancellation: late });
    await arrived.promise;
    late.cancel();
    expect(await inFlight).toEqual({ kind: 'cancelled' });
    await expect.poll(() => sockets.size).toBe(0);
  });

  it('forgets the cancellation once it has the answer', async () => {
    await http((_, response) => void response.end('{}'));
    const cancellation = new Cancellation();
    let last: unknown = 'never asked';
    const ask = cancellation.onCancel.bind(cancellation);
    cancellation.onCancel = (act) => ask((last = act));
    await call({ cancellation });
    expect(last).toBeUndefined();
  });

  it('ends an answer that would fill the memory', async () => {
    const chunk = Buffer.alloc(4 * 1024 * 1024, ' ');
    await http((_, response) => {
      const push = () => {
        while (!response.destroyed && response.write(chunk));
        response.once('drain', push);
      };
      push();
    });
    const answer = await call();
    expect(answer).toMatchObject({ kind: 'given_up', reason: expect.stringMatching(/passed \d+ bytes/) as string });
    await expect.poll(() => sockets.size).toBe(0);
  });

  it.each([
    ['pieces', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n', '1\r\nx\r\n'],
    ['interim answers', '', 'HTTP/1.1 103 Early Hints\r\n\r\n'],
  ])('cuts an answer off that has %s without end, long before its time limit', async (what, first, again) => {
    await tcp((socket) => {
      socket.write(first);
      const more = () => void (socket.destroyed || socket.write(again.repeat(1_000), more));
      socket.once('data', more);
    });
    expect(await call()).toMatchObject({ kind: 'given_up', reason: expect.stringContaining(what) as string });
  });

  it('reads no more of a failure than is parsed of it', async () => {
    let sent = 0;
    await http((_, response) => {
      response.writeHead(500, { 'X-Faas-Runner': '1' });
      const more = () => {
        sent += 1;
        if (!response.destroyed) response.write(Buffer.alloc(64 * 1024, 'x'), more);
      };
      more();
    });
    const answer = await call();
    expect(answer).toMatchObject({ kind: 'answered', status: 500 });
    expect(sent).toBeLessThan(200);
  });

  it('accepts only short numbers as the name of a runner', async () => {
    const runners = ['12', '12345678901', 'r1', '', '-1', '1 2'];
    const left = [...runners];
    await http((request, response) => {
      request.resume();
      if (left.length > 0) response.writeHead(200, { 'X-Faas-Runner': left.shift()! }).end('{}');
      else request.socket.destroy();
    });
    const heard = vi.spyOn(connections, 'noteAnswer');
    for (const _ of runners) await call();
    expect(heard.mock.calls.map(([, runner]) => runner)).toEqual(['12']);
  });
});

describe('callWorker with a large answer', () => {
  const MIB = 1024 * 1024;
  let connections: Connections;
  let server: Server;
  const sockets = new Set<Socket>();

  const start = async (listener: RequestListener, protection: Protection = {}) => {
    server = createHttpServer((request, response) => {
      sockets.add(request.socket);
      request.resume().on('end', () => listener(request, response));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    connections = new Connections({ kind: 'tcp', host: '127.0.0.1', port }, protection);
  };
  afterEach(async () => {
    connections.close();
    for (const socket of sockets) socket.destroy();
    sockets.clear();
    await new Promise((resolve) => server.close(resolve));
  });

  /** What came of one call, and what its caller got of it. */
  const call = (into: Writable = new PassThrough(), timeoutMs = 10_000, room = Infinity) => {
    const began: (number | undefined)[] = [];
    let held = 0;
    const answer = callWorker(connections, {
      body: BODY,
      functionId: 'aaaaaaaaaaaaaaaa',
      requestId: 'request-1',
      timeoutMs,
      cancellation: new Cancellation(),
      reservation: {
        add: (bytes) => {
          if (held + bytes > room) throw new MemoryExhausted('manager_overloaded', room);
          held += bytes;
        },
      },
      sink: {
        begin: (bytes) => {
          began.push(bytes);
          return into;
        },
      },
    });
    return { answer, began, held: () => held };
  };
  const RESULT = Buffer.from(JSON.stringify({ result: 'x'.repeat(20 * MIB) }));

  it('keeps little of it and passes it on as fast as its caller reads, to the last byte', async () => {
    let sent = 0;
    await start((_, response) => {
      response.writeHead(200, { 'Content-Length': RESULT.length, 'X-Faas-Runner': '1' }).end(RESULT);
      sent += 1;
    });
    const slow = new PassThrough();
    const { answer, began, held } = call(slow);
    await vi.waitFor(() => expect(began).toEqual([RESULT.length]));
    expect(slow.readableLength + slow.writableLength).toBeLessThan(MIB);
    const read = buffer(slow);
    expect(await answer).toMatchObject({ kind: 'streamed' });
    expect((await read).equals(RESULT)).toBe(true);
    expect(held()).toBeLessThan(MIB);
    // The connection serves the next one.
    expect(await call(new PassThrough().resume()).answer).toMatchObject({ kind: 'streamed' });
    expect([sent, sockets.size]).toEqual([2, 1]);
  });

  it('counts no time against the function in which the caller reads nothing', async () => {
    await start((_, response) => {
      response.writeHead(200).end(RESULT);
    });
    const slow = new PassThrough();
    const { answer, began } = call(slow, 1_500);
    await vi.waitFor(() => expect(began).toEqual([undefined]));
    expect(await Promise.race([answer, delay(2_000, 'still open')])).toBe('still open');
    const read = buffer(slow);
    expect(await answer).toMatchObject({ kind: 'streamed' });
    expect(await read).toHaveLength(RESULT.length);
  });

  it('ends it for its caller when it breaks off, is too long, takes too long or has no end', async () => {
    const beginning = RESULT.subarray(0, MIB);
    const parts: RequestListener[] = [
      (request, response) => {
        response.writeHead(200, { 'Content-Length': RESULT.length }).write(beginning, () => request.socket.destroy());
      },
      (_, response) => {
        response.writeHead(200).write(beginning);
        for (let mib = 0; mib < 64; mib += 1) response.write(Buffer.alloc(MIB, 'x'));
        response.end('"}');
      },
      (_, response) => void response.writeHead(200).write(beginning),
      (_, response) => void response.writeHead(200).end(beginning),
    ];
    await start((request, response) => parts.shift()!(request, response));
    const kinds: string[] = [];
    while (parts.length > 0) {
      const into = new PassThrough().resume();
      kinds.push((await call(into, parts.length === 2 ? 300 : 10_000).answer).kind);
      expect(into.destroyed).toBe(true);
    }
    expect(kinds).toEqual(['broken_off', 'broken_off', 'timed_out', 'broken_off']);
  });

  it('passes on no answer that is no result, is announced as too long or comes from another worker', async () => {
    const large = 65 * MIB;
    const parts: RequestListener[] = [
      (_, response) => void response.writeHead(200).end(Buffer.alloc(MIB, ' ')),
      (_, response) => void response.writeHead(200).end(`{"more":"${'x'.repeat(MIB)}","result":1}`),
      (_, response) => void response.writeHead(200, { 'Content-Length': large }).write(RESULT.subarray(0, MIB)),
      (_, response) => void response.writeHead(500).end(RESULT),
      (_, response) => void response.writeHead(200).end(RESULT),
    ];
    await start(
      (request, response) => {
        response.setHeader('X-Faas-Runner', '1');
        if (parts.length === 1) response.removeHeader('X-Faas-Runner');
        parts.shift()!(request, response);
      },
      { guard: 'worker' },
    );
    const answers: WorkerAnswer[] = [];
    while (parts.length > 0) {
      const { answer, began, held } = call();
      answers.push(await answer);
      expect(began).toEqual([]);
      expect(held()).toBeLessThan(MIB);
    }
    expect(answers.map(({ kind }) => kind)).toEqual(['answered', 'answered', 'given_up', 'answered', 'cut_off']);
    for (const answer of answers) if (answer.kind === 'answered') expect(isResult(answer.body)).toBe(false);
  });

  it('is given up when there is no room for it', async () => {
    await start((_, response) => void response.writeHead(200).end(RESULT));
    const { answer } = call(new PassThrough(), 10_000, 100_000);
    expect(await answer).toMatchObject({ kind: 'no_room', error: { code: 'manager_overloaded' } });
  });
});
