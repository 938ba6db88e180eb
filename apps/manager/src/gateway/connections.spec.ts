import { createServer, type Server, type ServerResponse } from 'node:http';
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { EndpointAddress } from '#libs/orchestrator/workload.js';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Cancellation } from './cancellation.js';
import { type Connection, Connections, type Protection } from './connections.js';
import { callWorker } from './worker-client.js';

/** No socket opens before a call is sent, so what only takes and gives back needs no server. */
const NOWHERE: EndpointAddress = { kind: 'tcp', host: '127.0.0.1', port: 9 };
const opened: Connections[] = [];
const servers: Server[] = [];

afterEach(async () => {
  for (const connections of opened.splice(0)) connections.close();
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

function connectionsTo(address = NOWHERE, protection: Protection = {}): Connections {
  const connections = new Connections(address, protection);
  opened.push(connections);
  return connections;
}

/** A finished call at `now`. */
function answered(connections: Connections, connection: Connection, runner: string, now: number): void {
  connections.noteAnswer(connection, runner, now);
  connections.release(connection);
}

async function serve(
  path?: string,
  answer = (response: ServerResponse) => void response.end('{}'),
): Promise<{ address: EndpointAddress; sockets: Set<Socket>; calls: string[] }> {
  const sockets = new Set<Socket>();
  const calls: string[] = [];
  const server = createServer((request, response) => {
    calls.push(request.url ?? '');
    request.resume().on('end', () => answer(response));
  });
  server.on('connection', (socket) => sockets.add(socket));
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(path ?? { port: 0, host: '127.0.0.1' }, resolve));
  if (path !== undefined) return { address: { kind: 'unix', path }, sockets, calls };
  return { address: { kind: 'tcp', host: '127.0.0.1', port: (server.address() as AddressInfo).port }, sockets, calls };
}

/** One small call. */
const call = (connections: Connections) =>
  callWorker(connections, {
    body: Buffer.from('{"payload":""}'),
    functionId: 'aaaaaaaaaaaaaaaa',
    requestId: 'id',
    timeoutMs: 5_000,
    cancellation: new Cancellation(),
  });

describe('Connections', () => {
  it('reuses a connection when its answer is complete, the last used first', () => {
    const connections = connectionsTo();
    const [one, two] = [connections.take(0), connections.take(0)];
    expect(two).not.toBe(one);
    answered(connections, one, 'r1', 1);
    answered(connections, two, 'r1', 2);
    expect(connections.take(3)).toBe(two);
    expect(connections.take(3)).toBe(one);
  });

  it('doesn’t use the idle sockets of a runner that holds a call without answering, until it answers', () => {
    const connections = connectionsTo();
    const [stuck, idle] = [connections.take(0), connections.take(0)];
    answered(connections, stuck, 'r1', 1);
    answered(connections, idle, 'r1', 1);
    const held = connections.take(10);
    expect([stuck, idle]).toContain(held);
    const other = held === stuck ? idle : stuck;
    expect(connections.take(200)).not.toBe(other);
    answered(connections, held, 'r1', 210);
    expect([held, other]).toContain(connections.take(220));
  });

  it('knows that a runner is unresponsive even if its first calls began before it was known', () => {
    const connections = connectionsTo();
    const [one, two] = [connections.take(0), connections.take(0)];
    answered(connections, one, 'r1', 1);
    const stuck = connections.take(2);
    expect(stuck).toBe(one);
    answered(connections, two, 'r1', 10);
    // `stuck` has had no answer since; nothing else has come from its runner either.
    expect(connections.take(200)).not.toBe(two);
  });

  it('goes on using the sockets of the runner that follows a stuck one', () => {
    const connections = connectionsTo();
    const stuck = connections.take(0);
    answered(connections, stuck, 'r1', 0);
    expect(connections.take(1)).toBe(stuck);
    const fresh = connections.take(200);
    expect(fresh).not.toBe(stuck);
    answered(connections, fresh, 'r2', 210);
    expect(connections.take(1_000)).toBe(fresh);
  });

  it('ends with an abandoned call every idle socket of the same runner and of no other', () => {
    const connections = connectionsTo();
    const all = [connections.take(0), connections.take(0), connections.take(0)] as const;
    const [stuck, sibling, other] = all;
    for (const connection of [stuck, sibling]) connections.noteAnswer(connection, 'r1', 1);
    answered(connections, other, 'r2', 1);
    connections.release(sibling);
    connections.abandon(stuck);
    expect(all.map(({ closed }) => closed)).toEqual([true, true, false]);
    expect(connections.take(2)).toBe(other);
  });

  it('forgets every runner but the newest and those that have calls', () => {
    const connections = connectionsTo();
    const busy = connections.take(0);
    connections.noteAnswer(busy, '1', 0);
    for (let runner = 2; runner < 500; runner += 1) {
      const connection = connections.take(runner);
      answered(connections, connection, String(runner), runner);
    }
    expect([...connections['runners'].keys()]).toEqual(['1', '499']);
    connections.release(busy);
    expect([...connections['runners'].keys()]).toEqual(['499']);
  });

  it('closes idle connections at once and the others as they come back', () => {
    const connections = connectionsTo();
    const [idle, busy] = [connections.take(0), connections.take(0)];
    answered(connections, idle, 'r1', 1);
    connections.close();
    expect([idle.closed, busy.closed]).toEqual([true, false]);
    connections.release(busy);
    expect(busy.closed).toBe(true);
  });

  it('keeps a bounded number of idle sockets', () => {
    const connections = connectionsTo();
    const many = Array.from({ length: 80 }, () => connections.take(0));
    for (const connection of many) answered(connections, connection, 'r1', 1);
    expect(many.filter(({ closed }) => !closed)).toHaveLength(64);
  });
});

describe('Connections to a server', () => {
  it('sends calls one after the other over one socket, and calls at once over one each', async () => {
    const { address, sockets } = await serve();
    const connections = connectionsTo(address);
    for (let n = 0; n < 5; n += 1) expect(await call(connections)).toMatchObject({ kind: 'answered', status: 200 });
    expect(sockets.size).toBe(1);
    await Promise.all([call(connections), call(connections), call(connections)]);
    expect(sockets.size).toBe(3);
  });

  it('reaches a worker over a UNIX socket', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'faas-connections-'));
    try {
      const { address, sockets } = await serve(join(folder, 'worker.sock'));
      const connections = connectionsTo(address);
      for (let n = 0; n < 3; n += 1) expect(await call(connections)).toMatchObject({ kind: 'answered', status: 200 });
      expect(sockets.size).toBe(1);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('never sends a call over an idle socket that the server has closed', async () => {
    const { address, sockets } = await serve();
    const connections = connectionsTo(address);
    await call(connections);
    for (const socket of sockets) socket.destroy();
    await delay(20);
    expect(await call(connections)).toMatchObject({ kind: 'answered' });
    expect(sockets.size).toBe(2);
  });

  it('ends the calls under way of a replica that is gone, and takes no connection back', async () => {
    const { address, sockets } = await serve(undefined, () => undefined);
    const connections = connectionsTo(address);
    const calls = [call(connections), call(connections)];
    await vi.waitFor(() => expect(sockets.size).toBe(2));
    await vi.waitFor(() => expect([...sockets].every(({ bytesRead }) => bytesRead > 0)).toBe(true));
    connections.abortCalls();
    for (const answer of await Promise.all(calls)) expect(answer).toMatchObject({ kind: 'cut_off' });
  });

  it('closes a socket that was idle for four seconds, before the server would', async () => {
    const { address, sockets } = await serve();
    const connections = connectionsTo(address);
    await call(connections);
    const [socket] = sockets;
    const began = performance.now();
    await new Promise((resolve) => socket!.once('close', resolve));
    expect(performance.now() - began).toBeLessThan(4_800);
    expect(await call(connections)).toMatchObject({ kind: 'answered' });
  });
});

describe('Connections to an address that may be given away', () => {
  it('send the first call of each only once it is confirmed whose it is, and ask no more while it is kept', async () => {
    const { address, sockets, calls } = await serve();
    const asked: number[] = [];
    const confirm = async () => {
      // The question is put when the connection stands: a yes is about that one.
      await vi.waitFor(() => expect(sockets.size).toBe(asked.push(calls.length)));
      return true;
    };
    const connections = connectionsTo(address, { confirm });
    for (let n = 0; n < 3; n += 1) expect(await call(connections)).toMatchObject({ kind: 'answered' });
    expect(asked).toEqual([0]);
    for (const socket of sockets) socket.destroy();
    sockets.clear();
    await delay(20);
    asked.length = 0;
    expect(await call(connections)).toMatchObject({ kind: 'answered' });
    expect(asked).toEqual([3]);
  });

  it('send nothing where the address is another’s by now, or nobody can tell', async () => {
    const { address, sockets, calls } = await serve();
    const away = new Error('the engine is away');
    const others = connectionsTo(address, { confirm: () => Promise.resolve(false) });
    const unknown = connectionsTo(address, { confirm: () => Promise.reject(away) });
    expect(await call(others)).toMatchObject({
      kind: 'not_sent',
      reason: expect.stringContaining('another') as string,
    });
    expect(await call(unknown)).toMatchObject({ kind: 'not_sent', error: away });
    expect(sockets.size).toBe(2);
    await vi.waitFor(() =>
      expect([...sockets].every(({ readableEnded, destroyed }) => readableEnded || destroyed)).toBe(true),
    );
    expect(calls).toEqual([]);
  });

  it('give up a call in time when the engine doesn’t say whose the address is', async () => {
    const { address, calls } = await serve();
    const connections = connectionsTo(address, { confirm: () => new Promise(() => undefined) });
    const body = Buffer.from('{"payload":""}');
    const asked = {
      body,
      functionId: 'aaaaaaaaaaaaaaaa',
      requestId: 'id',
      timeoutMs: 150,
      cancellation: new Cancellation(),
    };
    expect(await callWorker(connections, asked)).toEqual({ kind: 'timed_out' });
    expect(calls).toEqual([]);
  });
});
