import { Metrics } from '#libs/observability/metrics.js';
import type { RequestListener, Server, ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { MemoryBudget } from '../memory/memory-budget.js';
import { noteUncounted } from './client-connection.js';
import { readBody } from '../gateway/call-body.js';
import { createHttpServer, listen } from './server.js';

const MIB = 1024 * 1024;
const GET = 'GET /x HTTP/1.1\r\nHost: a\r\n\r\n';

describe('the connections of clients', () => {
  let server: Server;
  let held: MemoryBudget;
  const clients = new Set<Socket>();
  const served = new Set<Socket>();

  const start = async (
    listener: RequestListener,
    readTimeoutMs?: number,
    requestTimeoutMs = 60_000,
    heldBytes = 64 * MIB,
  ) => {
    const config = {
      host: '127.0.0.1',
      port: 0,
      narrowedToLoopback: false,
      processes: 1,
      drainTimeoutMs: 0,
      shutdownDelayMs: 0,
      requestTimeoutMs,
    };
    held = new MemoryBudget({ heldBytes }, new Metrics());
    server = createHttpServer(listener, config, held, { readTimeoutMs });
    server.on('connection', (socket: Socket) => served.add(socket));
    await listen(server, config);
  };
  const client = (bytes: string): Socket => {
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1').on('error', () => undefined);
    clients.add(socket);
    socket.write(bytes);
    return socket;
  };
  /** What a client has got so far. */
  const reading = (socket: Socket) => {
    const all = { text: '' };
    socket.on('data', (chunk: Buffer) => (all.text += chunk.toString('latin1')));
    return all;
  };
  const isOpen = () => [...served].filter(({ destroyed }) => !destroyed).length;

  afterEach(async () => {
    for (const socket of clients) socket.destroy();
    clients.clear();
    served.clear();
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  });

  it('run a few requests at once, in order, and the next when one has been answered', async () => {
    const open: ServerResponse[] = [];
    await start((_, response) => open.push(response));
    const got = reading(client(GET.repeat(1_500)));
    await vi.waitFor(() => expect(open).toHaveLength(8));
    open[1]!.end('second');
    await delay(50);
    // Behind one that isn't answered it can't be sent, so it isn't done.
    expect(open).toHaveLength(8);
    open[0]!.end('first');
    await vi.waitFor(() => expect(open).toHaveLength(10));
    expect(got.text).toMatch(/first[^]*second$/);
  });

  it('end when line ends without end come in place of a request, and stay while a refused body is still read', async () => {
    await start((_, response) => response.end('done'), 400);
    const noisy = client(GET);
    const sending = client('POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n');
    const got = reading(sending);
    await vi.waitFor(() => expect(got.text).toContain('done'));
    const more = setInterval(() => {
      noisy.write('\r\n'.repeat(8 * 1024));
      sending.write(Buffer.alloc(16 * 1024));
    }, 10);
    try {
      await vi.waitFor(() => expect(isOpen()).toBe(1), { timeout: 5_000 });
      // Its client hears of the end a moment later.
      await vi.waitFor(() => expect(noisy.destroyed).toBe(true), { timeout: 5_000 });
      const before = [...served].find(({ destroyed }) => !destroyed)?.bytesRead ?? 0;
      await vi.waitFor(
        () => expect([...served].find(({ destroyed }) => !destroyed)?.bytesRead).toBeGreaterThan(before + 256 * 1024),
        { timeout: 5_000 },
      );
      expect(sending.destroyed).toBe(false);
    } finally {
      clearInterval(more);
    }
  });

  it('get the answers to all their requests, in order, when they read them', async () => {
    let count = 0;
    await start((request, response) => {
      request.resume();
      const number = (count += 1);
      setImmediate(() => response.end(`<${number}>`));
    });
    const post = 'POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde';
    const got = reading(client((GET + post).repeat(2_000)));
    await vi.waitFor(() => expect(got.text).toContain('<4000>'), { timeout: 20_000 });
    const numbers = [...got.text.matchAll(/<(\d+)>/g)].map(([, number]) => Number(number));
    expect(numbers).toEqual(Array.from({ length: 4_000 }, (_, index) => index + 1));
  });

  it('aren’t read while their requests wait, and are read again afterwards', async () => {
    const open: ServerResponse[] = [];
    await start((_, response) => open.push(response));
    const socket = client(GET.repeat(1_000));
    await vi.waitFor(() => expect(open).toHaveLength(8));
    const [connection] = served;
    await vi.waitFor(() => expect(connection!.bytesRead).toBeGreaterThan(0));
    const { bytesRead } = connection!;
    for (let more = 0; more < 50; more += 1) socket.write(GET.repeat(1_000));
    await delay(100);
    expect(connection!.bytesRead - bytesRead).toBeLessThan(200_000);
    socket.resume();
    for (let answered = 0; answered < 5_000; answered += 1) {
      await vi.waitFor(() => expect(open.length).toBeGreaterThan(answered), { interval: 1 });
      open[answered]!.end();
    }
    expect(connection!.bytesRead).toBeGreaterThan(bytesRead);
  });

  it('run no more requests after an answer that closes them, or when they have ended', async () => {
    const open: ServerResponse[] = [];
    const gone: number[] = [];
    await start((_, response) => {
      const number = open.push(response);
      response.on('close', () => gone.push(number));
    });
    const closing = reading(client(GET.repeat(100)));
    await vi.waitFor(() => expect(open).toHaveLength(8));
    open[0]!.setHeader('Connection', 'close').end('last');
    await vi.waitFor(() => expect(isOpen()).toBe(0));
    expect(closing.text).toMatch(/last$/);
    expect(open).toHaveLength(8);
    const leaving = client(GET.repeat(100));
    await vi.waitFor(() => expect(open).toHaveLength(16));
    // As long as it isn't read, only what is written tells that it is gone.
    leaving.resetAndDestroy();
    open[8]!.write('x');
    await vi.waitFor(() => expect(gone.length).toBe(16));
    expect(open).toHaveLength(16);
  });

  it('end when they have many requests waiting', async () => {
    await start(() => undefined, undefined, undefined, 8 * MIB);
    client(GET.repeat(200));
    await vi.waitFor(() => expect(isOpen()).toBe(1));
    await delay(50);
    expect(isOpen()).toBe(1);
    client(GET.repeat(1_500));
    await vi.waitFor(() => expect([served.size, isOpen()]).toEqual([2, 1]));
  });

  it('end when their client doesn’t read its answers, and stay when it reads slowly', async () => {
    const answer = Buffer.alloc(24 * MIB, 'x');
    await start((_, response) => response.writeHead(200, { 'Content-Length': answer.length }).end(answer), 600);
    const idle = client(GET).pause();
    const slow = client(GET);
    let received = 0;
    const whole = (async () => {
      for await (const chunk of slow as AsyncIterable<Buffer>) {
        const before = received;
        received += chunk.length;
        if (Math.floor(received / MIB) > Math.floor(before / MIB)) await delay(80);
        if (received >= answer.length) break;
      }
    })();
    await vi.waitFor(() => expect(isOpen()).toBe(1), { timeout: 5_000 });
    await whole;
    expect(received).toBeGreaterThanOrEqual(answer.length);
    expect(idle.bytesRead).toBeLessThan(answer.length);
  });

  it('keep nothing of a call while they idle after it', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const bodies: WeakRef<Buffer>[] = [];
    const answer = async (...[request, response]: Parameters<RequestListener>) => {
      const body = await readBody(request, 8 * MIB, { add: () => undefined });
      bodies.push(new WeakRef(body));
      response.end(`<${body.length}>`);
    };
    await start((request, response) => void answer(request, response));
    const head = `POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: ${8 * MIB}\r\n\r\n`;
    const all = Array.from({ length: 4 }, () => {
      const socket = client(head);
      socket.write(Buffer.alloc(8 * MIB));
      return reading(socket);
    });
    const long = { timeout: 10_000 };
    await vi.waitFor(() => expect(all.every(({ text }) => text.endsWith(`<${8 * MIB}>`))).toBe(true), long);
    await vi.waitFor(() => {
      collect();
      expect(bodies.map((body) => body.deref()?.length)).toEqual(bodies.map(() => undefined));
    }, long);
    expect(isOpen()).toBe(4);
  });

  it('end when they send a body in tiny pieces, or go on with one of no length that has been refused', async () => {
    const received: number[] = [];
    await start((request, response) => {
      if (request.url === '/refused') response.writeHead(401).end('no');
      else request.on('data', (chunk: Buffer) => received.push(chunk.length));
    });
    const head = (path: string) =>
      `POST ${path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n${'1\r\nx\r\n'.repeat(5_000)}`;
    client(head('/taken'));
    const refused = client(head('/refused'));
    const got = reading(refused);
    const more = setInterval(() => refused.write('1\r\nx\r\n'.repeat(1_000)), 20);
    await vi.waitFor(() => expect(served.size).toBe(2));
    await vi.waitFor(() => expect(isOpen()).toBe(0), { timeout: 5_000 });
    clearInterval(more);
    expect(received.length).toBeLessThan(4_200);
    expect(got.text).toMatch(/^HTTP\/1\.1 401 [^]*\bno\b/);
  });

  it('may wait for an answer as long as it takes', async () => {
    await start((_, response) => setTimeout(() => response.end('late'), 600), 200);
    const got = reading(client(GET));
    await vi.waitFor(() => expect(got.text).toMatch(/late$/), { timeout: 3_000 });
  });

  it('count unsent answers without a reservation together, and those with the most unsent bytes end', async () => {
    await start(
      (request, response) => {
        noteUncounted(response, request.headers['x-held'] === undefined);
        response.end(Buffer.alloc(12 * MIB, 'x'));
      },
      800,
      undefined,
      64 * MIB,
    );
    client(GET.replace('\r\n\r\n', '\r\nX-Held: 1\r\n\r\n').repeat(2)).pause();
    client(GET).pause();
    const least = 5 * MIB;
    await vi.waitFor(async () => {
      expect(() => held.reserve().add(64 * MIB - least)).toThrow('memory');
      await Promise.resolve();
    });
    expect(isOpen()).toBe(2);
    client(GET.repeat(5)).pause();
    await vi.waitFor(() => expect(isOpen()).toBe(2), { timeout: 700 });
    await vi.waitFor(() => expect(isOpen()).toBe(0), { timeout: 5_000 });
  });

  it('get the time limit of a request again when the manager had stopped reading it', async () => {
    const open: ServerResponse[] = [];
    await start((_, response) => open.push(response), 1_500, 500);
    const [head, rest] = [GET.slice(0, 20), GET.slice(20)];
    const good = client(GET.repeat(9) + head);
    const bad = client(GET.repeat(9) + head);
    const got = reading(good);
    reading(bad);
    await vi.waitFor(() => expect(open).toHaveLength(16));
    await delay(1_200);
    expect(isOpen()).toBe(2);
    for (const response of open.splice(0)) response.end();
    await vi.waitFor(() => expect(open).toHaveLength(2));
    for (const response of open.splice(0)) response.end('ninth');
    good.write(rest);
    await vi.waitFor(() => expect(open).toHaveLength(1));
    open[0]!.end('tenth');
    await vi.waitFor(() => expect(got.text).toMatch(/ninth[^]*tenth$/));
    await vi.waitFor(() => expect(isOpen()).toBe(1), { timeout: 6_000 });
    expect(good.destroyed).toBe(false);
  });
});
