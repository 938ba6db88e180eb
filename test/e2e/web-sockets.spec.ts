import type { Socket } from 'node:net';
import { expect, it, onTestFinished, vi } from 'vitest';
import { describeOnAnyEngine, describeOnEachLocalEngine, describeOnPlainImage } from '../support/engines.js';
import { converse, expectProblem } from '../support/http.js';
import { Stage } from '../support/stage.js';
import { frame, HANDSHAKE, upgraded, WebSocketClient } from '../support/web-socket.js';

const KEY = 'a-key-of-this-suite';
const PATIENT = { timeout: 180_000 };
const KEYED = { 'X-Api-Key': KEY };
const JSON_KEYED = { ...KEYED, 'Content-Type': 'application/json' };

/** An application of ASGI that needs no package. */
const APP = `
import asyncio
import os

open_ones = set()
released = asyncio.Event()

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    path = scope["path"].removeprefix(scope["root_path"])
    if scope["type"] == "http":
        if path == "/held":
            await released.wait()
        if path == "/released":
            released.set()
        if path == "/noted":
            open_ones.add(path)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": str(len(open_ones)).encode()})
        return
    assert (await receive())["type"] == "websocket.connect"
    if path == "/refused":
        await send({"type": "websocket.close"})
        return
    if path == "/denied":
        await send({"type": "websocket.http.response.start", "status": 418, "headers": [(b"x-kind", b"tea")]})
        await send({"type": "websocket.http.response.body", "body": b"short and stout"})
        return
    if path == "/denied-at-length":
        await send({"type": "websocket.http.response.start", "status": 403})
        for _ in range(16):
            await send({"type": "websocket.http.response.body", "body": b"x" * 65536, "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b""})
        return
    if path == "/undecided":
        await asyncio.sleep(60)
    if path == "/raises":
        raise ValueError("before it was accepted")
    offered = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": offered[-1] if offered else None,
                "headers": [(b"x-path", path.encode()), (b"set-cookie", b"a=1; Path=/; Domain=example.org")]})
    me = object()
    open_ones.add(me)
    try:
        if path == "/deaf":
            await asyncio.sleep(60)
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                print("left with", message["code"])
                return
            text, data = message.get("text"), message.get("bytes")
            if text == "headers":
                names = [name.decode() for name, _ in scope["headers"]]
                await send({"type": "websocket.send", "text": " ".join(sorted(names))})
            elif text == "scope":
                told = [scope["scheme"], scope["root_path"], path, scope["query_string"].decode(), scope["client"][0]]
                await send({"type": "websocket.send", "text": " ".join(told)})
            elif text == "close":
                await send({"type": "websocket.close", "code": 4321, "reason": "as you wish"})
                return
            elif text == "fail":
                raise ValueError("in the middle")
            elif text == "die":
                os.kill(os.getpid(), 9)
            elif text == "flood":
                while True:
                    await send({"type": "websocket.send", "bytes": b"x" * 65536})
            elif text == "large":
                await send({"type": "websocket.send", "bytes": b"x" * 8 * 1024 * 1024})
            elif text is not None:
                await send({"type": "websocket.send", "text": text})
            else:
                await send({"type": "websocket.send", "bytes": data})
    finally:
        open_ones.discard(me)
`;

const PLAIN = `
def handle(payload):
    return payload
`;

describeOnEachLocalEngine('a WebSocket', (engine) => {
  const stage = Stage.on(engine, { API_KEYS: KEY });

  it('carries messages both ways between a client and an application, and its closing code', PATIENT, async () => {
    const { manager } = stage;
    const { id } = await manager.add(APP, { name: 'app' });
    const client = await WebSocketClient.open(`${manager.url}/f/${id}/rooms/7?x=1`, {
      headers: KEYED,
      protocols: ['first', 'second'],
    });
    expect(client.socket.protocol).toBe('second');
    expect(client.socket.extensions).toBe('');
    expect(await client.ask('grüß')).toBe('grüß');
    const bytes = Buffer.from(Array.from({ length: 200_000 }, (_, index) => index % 251));
    expect(await client.ask(bytes)).toEqual(bytes);
    expect(await client.ask('scope')).toBe(`ws /f/${id} /rooms/7 x=1 127.0.0.1`);
    expect(await client.close(3123, 'bye')).toEqual({ code: 3123, reason: 'bye' });
    await vi.waitFor(async () => expect((await manager.logOf(id)).join()).toContain('left with 3123'), PATIENT);
    const other = await WebSocketClient.open(`${manager.url}/f/${id}`, { headers: KEYED });
    other.send('close');
    expect(await other.closed).toEqual({ code: 4321, reason: 'as you wish' });
    expect((await manager.send(`/f/${id}/`, { headers: KEYED })).text).toBe('0');
    await manager.send(`/functions/${id}`, { method: 'DELETE', headers: KEYED });
  });
});

describeOnAnyEngine('a WebSocket', (engine) => {
  const stage = Stage.on(engine, {
    API_KEYS: KEY,
    STREAM_IDLE_TIMEOUT_MS: '3000',
    FUNCTIONS_DOMAIN: 'fn.example',
    WEBSOCKETS_PER_FUNCTION: '12',
    WEBSOCKETS_MOST: '20',
    DRAIN_TIMEOUT_MS: '20000',
  });
  const open = (reference: string, path = '', headers: Record<string, string> = KEYED) =>
    WebSocketClient.open(`${stage.manager.url}/f/${reference}${path}`, { headers });
  const asked = (path: string, headers: Record<string, string> = {}) =>
    stage.manager.send(path, { headers: { ...HANDSHAKE, ...KEYED, ...headers } });
  const gauge = async (name: string, id: string) => {
    const metrics = (await stage.manager.send('/metrics', { headers: KEYED })).text;
    return Number(new RegExp(`^${name}\\{function="${id}"\\} (\\d+)$`, 'm').exec(metrics)?.[1] ?? 0);
  };
  const patch = (id: string, said: object) =>
    stage.manager.send(`/functions/${id}`, { method: 'PATCH', headers: KEYED, body: JSON.stringify(said) });

  it('is answered with what a call is answered with', PATIENT, async () => {
    const { id } = await stage.manager.add(APP, { name: 'app' });
    const { socket, answer } = await upgraded(`${stage.manager.url}/f/${id}/a`, {
      ...KEYED,
      Cookie: 'b=2',
      'Sec-WebSocket-Extensions': 'permessage-deflate',
      'X-Request-Id': 'request-1',
    });
    expect(answer.statusCode).toBe(101);
    expect(answer.headers).toMatchObject({
      'sec-websocket-accept': 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=',
      'x-path': '/a',
      'x-request-id': 'request-1',
      'x-faas-revision': '1',
      'set-cookie': [`a=1; Path=/f/${id}`],
    });
    expect(answer.headers['x-faas-runner']).toBeUndefined();
    const told = new Promise<string>((resolve) => {
      socket.once('data', (data: Buffer) => resolve(data.toString()));
    });
    socket.write(frame(1, 'headers'));
    const headers = (await told).replace(/^[^a-z]+/, '').split(' ');
    for (const name of ['cookie', 'host', 'sec-websocket-key', 'x-forwarded-for', 'x-request-id']) {
      expect(headers).toContain(name);
    }
    for (const name of ['x-api-key', 'sec-websocket-extensions', 'x-faas-token', 'x-faas-function']) {
      expect(headers).not.toContain(name);
    }
    socket.destroy();
  });

  it('is refused by the application in its own words, or by a problem', PATIENT, async () => {
    const { id } = await stage.manager.add(APP, { name: 'app' });
    expect(await asked(`/f/${id}/refused`)).toMatchObject({ status: 403, text: '' });
    const denied = await asked(`/f/${id}/denied`);
    expect(denied).toMatchObject({ status: 418, text: 'short and stout', headers: { 'x-kind': 'tea' } });
    expect((await asked(`/f/${id}/denied-at-length`)).text).toBe('x'.repeat(1024 * 1024));
    expectProblem(await asked(`/f/${id}/raises`), 500, 'handler_error');
    expectProblem(await asked('/f/nobody'), 404, 'function_not_found');
    expectProblem(await asked(`/f/${id}`, { 'X-Faas-Revision': '9' }), 409, 'revision_without_traffic');
    await expect(upgraded(`${stage.manager.url}/f/${id}/refused`, KEYED)).rejects.toThrow('refused with 403');
    const { id: plain } = await stage.manager.add(PLAIN);
    expectProblem(await asked(`/f/${plain}`), 400, 'websocket_unsupported');
    // The next call of such a function is none the worse for it.
    expect((await stage.manager.send(`/f/${plain}`, { method: 'POST', headers: KEYED, body: 'x' })).text).toBe('x');
    expect(await gauge('faas_websockets_open', id)).toBe(0);
  });

  it('needs a key unless its function is public', PATIENT, async () => {
    const { id } = await stage.manager.add(APP, { name: 'app' });
    const stranger = () => stage.manager.send(`/f/${id}`, { headers: HANDSHAKE });
    expectProblem(await stranger(), 401, 'unauthorized');
    expectProblem(await asked(`/f/${id}`, { 'X-Api-Key': 'wrong' }), 401, 'unauthorized');
    await patch(id, { public: true });
    const client = await open(id, '', { Origin: 'https://page.example' });
    expect(await client.ask('headers')).toMatch(/\borigin\b/);
    await client.close();
  });

  it('is of the manager’s own pages alone where it has no keys', PATIENT, async () => {
    const { id } = await stage.manager.add(APP, { name: 'app' });
    const keyless = await stage.start({ API_KEYS: '', AUTH_DISABLED: 'true', FUNCTIONS_DOMAIN: 'fn.example' });
    const from = (origin: string) => WebSocketClient.open(`${keyless.url}/f/${id}`, { headers: { Origin: origin } });
    await (await from(keyless.url)).close();
    for (const origin of ['https://page.example', 'null', 'http://app.fn.example']) {
      await expect(from(origin)).rejects.toThrow('refused');
    }
    const refused = await keyless.send(`/f/${id}`, { headers: { ...HANDSHAKE, Origin: 'https://page.example' } });
    expectProblem(refused, 403, 'foreign_origin');
  });

  it('is opened under the name of a function as a host, too', PATIENT, async () => {
    const { id } = await stage.manager.add(APP, { name: 'app' });
    await patch(id, { name: 'hosted' });
    const { socket, answer } = await upgraded(`${stage.manager.url}/a`, { ...KEYED, Host: 'hosted.fn.example' });
    expect(answer.headers['x-path']).toBe('/a');
    expect(answer.headers['set-cookie']).toEqual(['a=1; Path=/; Domain=example.org']);
    socket.destroy();
  });

  it('wakes a function that sleeps, and holds a slot until it is closed', PATIENT, async () => {
    const { id } = await stage.manager.add(APP, {
      name: 'app',
      concurrency: 1,
      max_replicas: 1,
      idle_timeout_ms: 1000,
    });
    const phase = async () => (await stage.manager.send(`/functions/${id}`, { headers: KEYED })).json();
    await vi.waitFor(async () => expect(await phase()).toMatchObject({ status: 'idle' }), PATIENT);
    const client = await open(id);
    expect(await client.ask('here')).toBe('here');
    expect(await gauge('faas_websockets_open', id)).toBe(1);
    expect(await gauge('faas_calls_in_flight', id)).toBe(1);
    let hasAnswered = false;
    const call = stage.manager.send(`/f/${id}`, { headers: KEYED }).then((answer) => {
      hasAnswered = true;
      return answer;
    });
    await vi.waitFor(async () => expect(await gauge('faas_calls_waiting', id)).toBe(1), PATIENT);
    expect(hasAnswered).toBe(false);
    await client.close();
    expect((await call).text).toBe('0');
    await vi.waitFor(async () => expect(await gauge('faas_websockets_open', id)).toBe(0), PATIENT);
  });

  it('whose client vanishes frees its slot, whether its application listens or not', PATIENT, async () => {
    const { id } = await stage.manager.add(APP, { name: 'app', concurrency: 1, max_replicas: 1 });
    for (const path of ['/', '/', '/deaf']) {
      const { socket } = await upgraded(`${stage.manager.url}/f/${id}${path}`, KEYED);
      socket.resetAndDestroy();
      expect((await stage.manager.send(`/f/${id}`, { headers: KEYED })).text).toBe('0');
    }
    expect((await stage.manager.logOf(id)).filter((line) => line.includes('left with 1006'))).toHaveLength(2);
  });

  it('that nobody uses is closed, and so is one that goes on for too long', PATIENT, async () => {
    const { id } = await stage.manager.add(APP, { name: 'app', timeoutMs: 60_000 });
    const idle = await open(id);
    expect(await idle.closed).toEqual({ code: 1001, reason: 'Nothing came for too long.' });
    const { id: short } = await stage.manager.add(APP, { name: 'app', timeoutMs: 2_000 });
    const busy = await open(short);
    const talking = setInterval(() => busy.send('x'), 100);
    expect(await busy.closed).toMatchObject({ code: 1001 });
    clearInterval(talking);
    await vi.waitFor(
      async () => expect((await stage.manager.logOf(short)).join()).toContain('left with 1001'),
      PATIENT,
    );
  });

  it('tells its client when the application fails, or its worker ends', PATIENT, async () => {
    const { id } = await stage.manager.add(APP, { name: 'app' });
    const failing = await open(id);
    failing.send('fail');
    expect(await failing.closed).toMatchObject({ code: 1011 });
    // It is a failed call for whoever counts them.
    const calls = async (status: string) =>
      (await stage.manager.send(`/functions/${id}/invocations?status=${status}`, { headers: KEYED })).json();
    const sizeFrom = (bytes: number) => expect.toSatisfy((size: number) => size >= bytes) as number;
    await vi.waitFor(async () => {
      const sent = { payload_bytes: sizeFrom(frame(1, 'fail').length) };
      expect(await calls('failed')).toMatchObject([{ http_status: 101, error: { code: 'handler_error' }, ...sent }]);
    }, PATIENT);
    const metrics = (await stage.manager.send('/metrics', { headers: KEYED })).text;
    expect(metrics).toContain(`faas_calls_total{function="${id}",code="handler_error"} 1\n`);
    const dying = await open(id);
    dying.send('die');
    expect(await dying.closed).toEqual({ code: 1011, reason: 'The worker has ended.' });
    await vi.waitFor(async () => {
      const next = await open(id);
      expect(await next.ask('alive')).toBe('alive');
      await next.close();
    }, PATIENT);
    await vi.waitFor(async () => {
      const [last] = (await calls('succeeded')) as object[];
      expect(last).toMatchObject({ payload_bytes: sizeFrom(frame(1, 'alive').length), result_bytes: sizeFrom(7) });
    }, PATIENT);
  });

  it('lets an application send no faster than its client reads', PATIENT, async () => {
    const { id } = await stage.manager.add(APP, { name: 'app' });
    const { socket } = await upgraded(`${stage.manager.url}/f/${id}`, KEYED);
    socket.pause();
    const before = process.memoryUsage().arrayBuffers;
    socket.write(frame(1, 'flood'));
    // Nothing passes any more, and so it counts as idle.
    await vi.waitFor(async () => expect(await gauge('faas_websockets_open', id)).toBe(0), PATIENT);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 1024 * 1024);
    socket.destroy();
  });

  it('that is flooded costs its own function alone', PATIENT, async () => {
    const { manager } = stage;
    const { id } = await manager.add(APP, { name: 'app', concurrency: 20, max_replicas: 1 });
    const { id: other } = await manager.add(APP, { name: 'app' });
    const url = `${manager.url}/f/${id}`;
    const held: Socket[] = [];
    // However long the others take, none is to be closed as one that nobody uses.
    const talking = setInterval(() => {
      for (const socket of held) socket.write(frame(9));
    }, 500);
    onTestFinished(() => clearInterval(talking));
    const taken = async (at: string) => held.push((await upgraded(at, KEYED)).socket);
    await Promise.all(Array.from({ length: 12 }, () => taken(url)));
    const refused = expectProblem(await asked(`/f/${id}`), 429, 'function_overloaded');
    expect(refused.detail).toContain('(12)');
    const honest = await open(other);
    expect(await honest.ask('unharmed')).toBe('unharmed');
    const honestTalking = setInterval(() => honest.send('x'), 500);
    onTestFinished(() => clearInterval(honestTalking));
    await Promise.all(Array.from({ length: 7 }, () => taken(`${manager.url}/f/${other}`)));
    expectProblem(await asked(`/f/${other}`), 429, 'manager_overloaded');
    expect((await manager.send(`/f/${other}`, { headers: KEYED })).text).toBe('8');
    for (const timer of [talking, honestTalking]) clearInterval(timer);
    for (const socket of held) socket.destroy();
    await vi.waitFor(async () => expect(await gauge('faas_websockets_open', id)).toBe(0), PATIENT);
    const again = await open(id);
    expect(await again.ask('free')).toBe('free');
    await Promise.all([again.close(), honest.close()]);
  });

  it('lets nothing but frames through, and only once it is accepted', PATIENT, async () => {
    const { id } = await stage.manager.add(APP, { name: 'app' });
    const lines = (headers: Record<string, string>, line = `GET /f/${id} HTTP/1.1`) =>
      [line, 'Host: x', ...Object.entries({ ...KEYED, ...headers }).map(([name, value]) => `${name}: ${value}`)].join(
        '\r\n',
      );
    const smuggled = `GET /f/${id}/smuggled HTTP/1.1\r\nHost: x\r\n${Object.entries(KEYED).flat().join(': ')}\r\n\r\n`;
    const heard = (bytes: string) => converse(stage.manager.port, bytes).received;
    // What comes before the answer could be for somebody else.
    expect(await heard(`${lines(HANDSHAKE)}\r\n\r\n${smuggled}`)).toBe('');
    for (const [wrong, line] of [
      [{ ...HANDSHAKE, 'Sec-WebSocket-Version': '8' }],
      [{ ...HANDSHAKE, 'Sec-WebSocket-Key': 'short' }],
      [{ ...HANDSHAKE, Connection: 'keep-alive' }],
      [{ ...HANDSHAKE, Connection: 'Upgrade, Sec-WebSocket-Key' }],
      [{ ...HANDSHAKE, Upgrade: 'websocket, h2c' }],
      [{ ...HANDSHAKE, 'Content-Length': '5' }, undefined],
      [HANDSHAKE, `POST /f/${id} HTTP/1.1`],
      [HANDSHAKE, `GET /f/${id} HTTP/1.0`],
    ] as const) {
      const body = 'Content-Length' in wrong ? 'hello' : '';
      const received = await heard(`${lines(wrong, line)}\r\n\r\n${body}${smuggled}`);
      expect(received).toMatch(/^HTTP\/1\.1 400 /);
      expect(received).not.toMatch(/HTTP\/1\.1 [^]*HTTP\/1\.1 /);
    }
    // Others are what they are without an upgrade, and no request follows them.
    const h2c = { Connection: 'Upgrade, HTTP2-Settings', Upgrade: 'h2c', 'HTTP2-Settings': 'AAMAAABk' };
    for (const bytes of [lines(h2c), lines(HANDSHAKE, 'GET /livez HTTP/1.1')]) {
      const received = await heard(`${bytes}\r\n\r\n${smuggled}`);
      expect(received).toMatch(/^HTTP\/1\.1 200 /);
      expect(received).not.toMatch(/HTTP\/1\.1 [^]*HTTP\/1\.1 /);
    }
    // Nor does one that comes later, before the answer.
    const begun = async (first: string) => {
      const { socket, received } = converse(stage.manager.port, `${first}\r\n\r\n`);
      await vi.waitFor(async () => expect(await gauge('faas_calls_in_flight', id)).toBe(1), PATIENT);
      socket.write(smuggled.replace('/smuggled', '/noted'));
      return received;
    };
    const opened = async () => (await stage.manager.send(`/f/${id}`, { headers: KEYED })).text;
    expect(await begun(lines(HANDSHAKE, `GET /f/${id}/undecided HTTP/1.1`))).toBe('');
    await vi.waitFor(async () => expect(await gauge('faas_calls_in_flight', id)).toBe(0), PATIENT);
    const held = begun(lines(h2c, `GET /f/${id}/held HTTP/1.1`));
    await vi.waitFor(async () => expect(await gauge('faas_calls_in_flight', id)).toBe(1), PATIENT);
    expect(await opened()).toBe('0');
    await stage.manager.send(`/f/${id}/released`, { headers: KEYED });
    expect((await held).match(/HTTP\/1\.1 /g)).toEqual(['HTTP/1.1 ']);
    expect(await opened()).toBe('0');
    // A request in line before it must have been answered.
    const inLine = await heard(`${lines({})}\r\n\r\n${lines(HANDSHAKE)}\r\n\r\n`);
    expect(inLine).toMatch(/^HTTP\/1\.1 200 [^]*HTTP\/1\.1 400 /);
  });

  it('closes a client that sends no frames, or too large ones', PATIENT, async () => {
    const { id } = await stage.manager.add(APP, { name: 'app' });
    for (const [bytes, code] of [
      [Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'), 1002],
      [Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0]), 1009],
    ] as const) {
      const { socket } = await upgraded(`${stage.manager.url}/f/${id}`, KEYED);
      const chunks: Buffer[] = [];
      socket.on('data', (chunk: Buffer) => chunks.push(chunk));
      socket.write(bytes);
      await new Promise((resolve) => socket.once('close', resolve));
      const received = Buffer.concat(chunks);
      expect(received[0]).toBe(0x88);
      expect(received.readUInt16BE(2)).toBe(code);
    }
  });

  it('is closed when its manager leaves, so that its client comes again', PATIENT, async () => {
    const { id } = await stage.manager.add(APP, { name: 'app' });
    const leaving = await stage.start({ API_KEYS: KEY, DRAIN_TIMEOUT_MS: '20000' });
    const client = await WebSocketClient.open(`${leaving.url}/f/${id}`, { headers: KEYED });
    expect(await client.ask('here')).toBe('here');
    const began = performance.now();
    const stopped = leaving.stop();
    expect(await client.closed).toEqual({ code: 1012, reason: 'The manager is leaving.' });
    await stopped;
    expect(performance.now() - began).toBeLessThan(20_000);
    await vi.waitFor(async () => expect((await stage.manager.logOf(id)).join()).toContain('left with 1012'), PATIENT);
  });

  it('is closed when its function is updated or removed, and goes on when that is switched off', PATIENT, async () => {
    const { id } = await stage.manager.add(APP, { name: 'app', timeoutMs: 60_000 });
    const talking = async () => {
      const client = await open(id);
      const timer = setInterval(() => client.send('x'), 500);
      void client.closed.then(() => clearInterval(timer));
      return client;
    };
    const changed = (path: string, method: string, said?: object) =>
      stage.manager.send(`/functions/${id}${path}`, { method, headers: JSON_KEYED, body: JSON.stringify(said) });
    const leaves = { code: 1012, reason: 'The worker is leaving.' };

    const first = await talking();
    const updated = await changed('/revisions', 'POST', { code: APP.replaceAll('"x-path", path', '"x-new", path') });
    expect(updated.status, updated.text).toBe(201);
    expect(await first.closed).toEqual(leaves);
    const { socket, answer } = await upgraded(`${stage.manager.url}/f/${id}/a`, KEYED);
    expect(answer.headers['x-new']).toBe('/a');
    socket.destroy();

    const second = await talking();
    expect((await patch(id, { enabled: false })).status).toBe(200);
    expectProblem(await asked(`/f/${id}`), 409, 'function_disabled');
    await vi.waitFor(async () => expect(await second.ask('on')).toBe('on'), PATIENT);
    const removed = changed('', 'DELETE');
    expect(await second.closed).toEqual(leaves);
    await removed;
    expectProblem(await asked(`/f/${id}`), 404, 'function_not_found');
  });
});

await describeOnPlainImage('a WebSocket to a worker that offers the bare contract', (engine) => {
  const stage = Stage.on(engine);

  it('is refused', PATIENT, async () => {
    const { id } = await stage.manager.add('def handle(payload):\n    return payload\n');
    expectProblem(await stage.manager.send(`/f/${id}`, { headers: HANDSHAKE }), 501, 'http_unsupported');
  });
});
