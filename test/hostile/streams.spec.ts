import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { expect, it, vi } from 'vitest';
import { describeOnAnyEngine } from '../support/engines.js';
import { converse, expectProblem } from '../support/http.js';
import { frame, HANDSHAKE } from '../support/web-socket.js';
import { Victim } from './support/victim.js';

const MIB = 1024 * 1024;
const READY_MS = 15_000;
const PATIENT = { timeout: 170_000 };
const LIMITS = {
  READY_TIMEOUT_MS: String(READY_MS),
  QUEUE_PER_FUNCTION: '64',
  WEBSOCKETS_PER_FUNCTION: '60',
  WEBSOCKETS_MOST: '100',
};

const STREAMS = `
import asyncio
import faas

async def handle(payload):
    if payload == "endless":
        return endless()
    if payload == "drops":
        return drops()
    name, _, count = payload.partition(" ")
    if name == "headers":
        return faas.Response(200, [(f"x-{number}", "y" * 100) for number in range(int(count))], "here")
    return faas.Response(200, {"x-large": "y" * int(count)}, "here")

async def endless():
    while True:
        yield b"x" * 65536

async def drops():
    while True:
        yield b"."
        await asyncio.sleep(0.01)
`;

/** An application that says nothing, or as much as it can. */
const SOCKETS = `
async def handle(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    while scope["path"].endswith("/loud"):
        await send({"type": "websocket.send", "bytes": b"x" * 65536})
    while (await receive())["type"] != "websocket.disconnect":
        pass
`;

describeOnAnyEngine('an honest function beside', (engine) => {
  const victim = Victim.on(engine, LIMITS);

  /** A client that sends and reads nothing. */
  const silent = async (bytes: string | Buffer): Promise<Socket> => {
    const socket = connect({ port: victim.port, host: '127.0.0.1' });
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    socket.pause();
    socket.write(bytes);
    return socket;
  };
  const post = (id: string, body: string) =>
    `POST /f/${id} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const handshake = (id: string, path: string) =>
    `${[`GET /f/${id}${path} HTTP/1.1`, 'Host: localhost', ...Object.entries(HANDSHAKE).map((pair) => pair.join(': '))].join('\r\n')}\r\n\r\n`;
  const count = async (name: string) => {
    const { text } = await victim.send('/metrics');
    const found = [...text.matchAll(new RegExp(`^${name}\\{[^}]*\\} (\\d+)$`, 'gm'))];
    return found.reduce((sum, [, value]) => sum + Number(value), 0);
  };

  it('streams without end, whose callers do not read and then vanish, is served as before', PATIENT, async () => {
    const id = await victim.add(STREAMS, { concurrency: '40', max_replicas: '1', timeout_ms: '60000' });
    const callers = await Promise.all(Array.from({ length: 40 }, () => silent(post(id, 'endless'))));
    await vi.waitFor(async () => expect(await count('faas_streams_open')).toBe(40), PATIENT);
    await victim.expectUploads(READY_MS);
    await victim.expectSmall();
    for (const socket of callers) socket.resetAndDestroy();
    await vi.waitFor(async () => expect(await count('faas_streams_open')).toBe(0), PATIENT);
    await victim.expectUnharmed();
  });

  it('streams of single bytes that go on until their time is over is served as before', PATIENT, async () => {
    const id = await victim.add(STREAMS, { concurrency: '40', max_replicas: '1', timeout_ms: '4000' });
    const received = await Promise.all(
      Array.from({ length: 40 }, () => converse(victim.port, post(id, 'drops')).received),
    );
    for (const text of received) {
      expect(text).toMatch(/^HTTP\/1\.1 200 /);
      // Its end is missing, by which its reader knows.
      expect(text).not.toMatch(/\r\n0\r\n/);
    }
    await victim.expectUnharmed();
  });

  it('a handler that answers with heads without end is served as before', PATIENT, async () => {
    const id = await victim.add(STREAMS, { max_replicas: '1' });
    for (const payload of ['headers 129', 'headers 100000', `large ${16 * 1024}`, `large ${32 * MIB}`]) {
      const answer = await victim.send(`/f/${id}`, { method: 'POST', body: payload });
      expectProblem(answer, 502, 'handler_response_invalid');
    }
    await victim.expectUnharmed();
  });

  it('a flood of WebSockets that say nothing, too much, or what is none, is served as before', PATIENT, async () => {
    const id = await victim.add(SOCKETS, { concurrency: '40', max_replicas: '1', timeout_ms: '60000' });
    const quiet = Array.from({ length: 20 }, () => silent(handshake(id, '/quiet')));
    const loud = Array.from({ length: 20 }, () => silent(handshake(id, '/loud')));
    const open = await Promise.all([...quiet, ...loud]);
    await vi.waitFor(async () => expect(await count('faas_websockets_open')).toBe(40), PATIENT);
    // Further ones wait for a slot, and beyond their bound are refused.
    const waiting = await Promise.all(Array.from({ length: 20 }, () => silent(handshake(id, '/quiet'))));
    await vi.waitFor(async () => expect(await count('faas_calls_waiting')).toBe(20), PATIENT);
    const refused = await Promise.all(
      Array.from({ length: 100 }, () => converse(victim.port, handshake(id, '/quiet')).received),
    );
    for (const text of refused) expect(text).toMatch(/^HTTP\/1\.1 429 /);
    await victim.expectUploads(READY_MS);
    for (const [index, socket] of open.slice(0, 20).entries()) {
      // Frames of nothing, pings that nobody hears the answers of, and no frames at all.
      socket.write(
        [frame(1).toString('latin1'), frame(9, 'x'.repeat(100)).toString('latin1'), 'nonsense '][index % 3]!.repeat(
          2_000,
        ),
        'latin1',
      );
    }
    await victim.expectUploads(READY_MS);
    for (const socket of [...open, ...waiting]) socket.resetAndDestroy();
    await vi.waitFor(async () => expect(await count('faas_websockets_open')).toBe(0), PATIENT);
    await victim.expectUnharmed();
  });
});
