import { request, type IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { expect, it, vi } from 'vitest';
import { describeOnAnyEngine } from '../support/engines.js';
import { converse, expectProblem } from '../support/http.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';

const KEY = 'a-key-of-this-suite';
const PATIENT = { timeout: 180_000 };
const MIB = 1024 * 1024;

const ECHO = `
import base64

def handle(payload, context):
    return {
        "method": context.method,
        "path": context.path,
        "query": context.query_string,
        "headers": dict(context.headers),
        "body": base64.b64encode(context.body).decode(),
        "revision": context.revision,
        "attempt": context.attempt,
        "remaining": context.remaining_ms(),
    }
`;

interface Echo {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly revision: number;
  readonly attempt: number;
  readonly remaining: number;
}

/** Answers of every form that a handler of a payload has. */
const FORMS = `
import faas

def handle(payload):
    match payload:
        case "text": return "grüß"
        case "bytes": return bytes(range(256))
        case "json": return {"a": [1, None]}
        case "none": return None
        case "teapot": return faas.Response(418, {"X-Kind": "tea"}, b"short and stout")
        case "cookies": return faas.Response(204, [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        case "reset": return faas.Response(205)
        case "forbidden": return faas.Response(200, {
            "Connection": "close", "Transfer-Encoding": "chunked", "X-Faas-Runner": "7", "X-Request-Id": "mine",
            "Service-Worker-Allowed": "/", "Strict-Transport-Security": "max-age=9", "Content-Security-Policy": "default-src 'self'"}, "here")
        case "many": return faas.Response(200, [(f"x-{n}", "y") for n in range(200)])
        case "large": return faas.Response(200, {"x-large": "y" * 20_000})
        case "injected": return faas.Response(200, {"x-a": "b\\r\\nx-c: d"})
        case "status": return faas.Response(99)
        case "raises": raise ValueError("no")
        case "object": return object()
        case "lines": return (line for line in ["one\\n", "two\\n"])
        case "items": return ({"n": n} for n in range(3))
`;

/** An application of ASGI that needs no package. */
const APP = `
import asyncio

started = []

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        started.append(True)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return
    path = scope["path"].removeprefix(scope["root_path"])
    async def answer(body, status=200, headers=()):
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body})
    if path == "/started":
        await answer(str(len(started)).encode())
    elif path == "/root":
        await answer(scope["root_path"].encode(), headers=[(b"content-type", b"text/html")])
    elif path == "/length":
        size = 0
        while True:
            message = await receive()
            size += len(message["body"])
            if not message["more_body"]:
                break
        await answer(str(size).encode())
    elif path == "/early":
        await answer(b"no, thank you", 413)
    elif path == "/events":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for number in range(3):
            await send({"type": "http.response.body", "body": b"data: %d\\n\\n" % number, "more_body": True})
            await receive()
        await send({"type": "http.response.body"})
    elif path == "/endless":
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                await asyncio.sleep(0)
        finally:
            print("stopped")
    elif path == "/silent":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await asyncio.sleep(3600)
    elif path == "/begun":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
        await send({"type": "http.response.body", "body": b"%d" % size})
    elif path == "/raises":
        raise ValueError("before the beginning")
    elif path == "/late":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        raise ValueError("after the beginning")
    elif path == "/echo":
        await send({"type": "http.response.start", "status": 200})
        while True:
            message = await receive()
            await send({"type": "http.response.body", "body": message["body"], "more_body": message["more_body"]})
            if not message["more_body"]:
                break
    else:
        await answer(b"not here", 404)
`;

const WSGI = `
def app(environ, start_response):
    if environ["PATH_INFO"] == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (b"%d\\n" % number for number in range(3))
    body = environ["wsgi.input"].read()
    text = "|".join([environ["REQUEST_METHOD"], environ["SCRIPT_NAME"], environ["PATH_INFO"],
                     environ["QUERY_STRING"], environ.get("HTTP_X_MINE", ""), str(len(body))]).encode()
    start_response("201 Created", [("Content-Length", str(len(text))), ("X-A", "1"), ("X-A", "2")])
    return [text]
`;

function* manyBytes(mebibytes: number): Generator<Buffer> {
  const piece = Buffer.alloc(64 * 1024, 'x');
  for (let sent = 0; sent < mebibytes * MIB; sent += piece.length) yield piece;
}

describeOnAnyEngine('an HTTP call', (engine) => {
  const stage = Stage.on(engine, { API_KEYS: KEY, STREAM_IDLE_TIMEOUT_MS: '5000', FUNCTIONS_DOMAIN: 'fn.example' });
  const keyed = (headers: Record<string, string> = {}) => ({ 'X-Api-Key': KEY, ...headers });
  const get = (path: string, headers: Record<string, string> = {}) =>
    stage.manager.send(path, { headers: keyed(headers) });

  /** A function, with what users say of it. */
  const added = async (code: string, said: object = {}, upload: Parameters<TestManager['add']>[1] = {}) => {
    const { id } = await stage.manager.add(code, upload);
    const sent = { method: 'PATCH', headers: keyed(), body: JSON.stringify(said) };
    expect((await stage.manager.send(`/functions/${id}`, sent)).status).toBe(200);
    return id;
  };
  /** An answer as it arrives. */
  const opened = (path: string, body?: Buffer | Readable, method = 'POST'): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      const options = { method, headers: keyed(), agent: false };
      const outgoing = request(`${stage.manager.url}${path}`, options, resolve).on('error', reject);
      if (body instanceof Readable) body.pipe(outgoing);
      else outgoing.end(body);
    });
  const inFlight = async (id: string) => {
    const metrics = (await get('/metrics')).text;
    return Number(new RegExp(`^faas_calls_in_flight\\{function="${id}"\\} (\\d+)$`, 'm').exec(metrics)?.[1] ?? 0);
  };

  it('hands method, path, query, headers and any bytes to the handler', PATIENT, async () => {
    const { manager } = stage;
    const id = await added(ECHO, { name: 'echo' });
    const body = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    for (const reference of ['echo', id]) {
      const answer = await manager.send(`/f/${reference}/a%20b/c?x=1&y=%2F&x=2`, {
        method: 'PUT',
        headers: keyed({ 'Content-Type': 'image/png', 'X-Mine': 'yes', 'X-Faas-Revision': '1' }),
        body,
      });
      expect(answer.status, answer.text).toBe(200);
      expect(answer.headers).toMatchObject({ 'content-type': 'application/json', 'x-faas-revision': '1' });
      const echo = answer.json() as Echo;
      expect(echo).toMatchObject({ method: 'PUT', path: '/a b/c', query: 'x=1&y=%2F&x=2', revision: 1, attempt: 1 });
      expect(echo.body).toBe(body.toString('base64'));
      expect(echo.headers).toMatchObject({ 'content-type': 'image/png', 'x-mine': 'yes', 'content-length': '256' });
      expect(echo.remaining).toBeGreaterThan(0);
    }
    for (const method of ['GET', 'POST', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND']) {
      const answer = await manager.send('/f/echo', { method, headers: keyed() });
      expect(answer.json()).toMatchObject({ method, path: '/', query: '', body: '' });
    }
    const head = await manager.send('/f/echo/x', { method: 'HEAD', headers: keyed() });
    expect(head).toMatchObject({ status: 200, text: '' });
    expect(Number(head.headers['content-length'])).toBeGreaterThan(0);
    expectProblem(await get('/f/nobody'), 404, 'function_not_found');
    expectProblem(await get('/f/Not_a_Name'), 404, 'function_not_found');
    expectProblem(await get('/f/echo', { 'X-Faas-Revision': '7' }), 409, 'revision_without_traffic');
    const refused = async (headers: Record<string, string>) =>
      expectProblem(await get('/f/echo', headers), 400, 'invalid_request');
    const bad = await refused({ 'X-Faas-Revision': 'x' });
    expect(bad).toMatchObject({
      field: 'X-Faas-Revision',
      detail: expect.stringMatching(/^The header X-Faas-/) as string,
    });
    expect(bad['parameter']).toBeUndefined();
    const both = await refused({ 'X-Faas-Revision': '1', 'X-Faas-Tag': 'next' });
    expect(both).toMatchObject({ field: 'X-Faas-Tag', detail: 'Send X-Faas-Revision or X-Faas-Tag, not both.' });
  });

  it('shows the handler who called, and nothing of keys and of the way', PATIENT, async () => {
    const id = await added(ECHO);
    const sent = {
      Connection: 'X-Hop',
      'X-Hop': '1',
      TE: 'trailers',
      'Proxy-Authorization': 'Basic eA==',
      'X-Faas-Function': 'another',
      'X-Faas-Token': 'mine',
      'X-Forwarded-For': '203.0.113.7',
      'X-Forwarded-Proto': 'https',
      'X-Forwarded-Prefix': '/mine',
      Origin: 'https://page.example',
      Authorization: `Bearer ${KEY}`,
      'X-Request-Id': 'request-1',
      Cookie: 'a=1',
    };
    const answer = await get(`/f/${id}/x`, sent);
    expect(answer.headers['x-request-id']).toBe('request-1');
    const { headers } = answer.json() as Echo;
    expect(headers).toMatchObject({
      'x-forwarded-for': '203.0.113.7, 127.0.0.1',
      'x-forwarded-proto': 'https',
      'x-forwarded-prefix': `/f/${id}`,
      'x-forwarded-host': headers['host'],
      'x-request-id': 'request-1',
      origin: 'https://page.example',
      cookie: 'a=1',
    });
    const names = Object.keys(headers);
    for (const name of ['x-api-key', 'authorization', 'x-hop', 'te', 'proxy-authorization', 'connection']) {
      expect(names).not.toContain(name);
    }
    expect(names.filter((name) => name.startsWith('x-faas-'))).toEqual([]);
    // What is no key of the manager's is the handler's business.
    const other = (await get(`/f/${id}`, { Authorization: 'Bearer of-the-function' })).json() as Echo;
    expect(other.headers['authorization']).toBe('Bearer of-the-function');
  });

  it('gives answers the form that the handler gives them', PATIENT, async () => {
    const id = await added(FORMS);
    const ask = (payload: string) =>
      stage.manager.send(`/f/${id}`, { method: 'POST', headers: keyed(), body: payload });
    const type = async (payload: string) => (await ask(payload)).headers['content-type'];
    expect((await ask('text')).text).toBe('grüß');
    expect(await type('text')).toBe('text/plain; charset=utf-8');
    expect((await ask('bytes')).body).toEqual(Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)));
    expect(await type('bytes')).toBe('application/octet-stream');
    expect((await ask('json')).text).toBe('{"a":[1,null]}');
    expect((await ask('none')).text).toBe('null');
    expect(await ask('teapot')).toMatchObject({ status: 418, text: 'short and stout' });
    expect((await ask('teapot')).headers['x-kind']).toBe('tea');
    const cookies = [`a=1; Path=/f/${id}`, `b=2; Path=/f/${id}`];
    expect(await ask('cookies')).toMatchObject({ status: 204, headers: { 'set-cookie': cookies } });
    expect(await ask('reset')).toMatchObject({ status: 205, text: '', headers: { 'content-length': '0' } });
    expect((await ask('lines')).text).toBe('one\ntwo\n');
    expect((await ask('items')).text).toBe('{"n":0}\n{"n":1}\n{"n":2}\n');
    expect(await type('items')).toBe('application/x-ndjson');
    // The fixed contract is what it was.
    expect((await stage.manager.call(id, 'json', { headers: keyed() })).text).toBe('{"result":{"a":[1,null]}}');
    expectProblem(await ask('raises'), 500, 'handler_error');
    expectProblem(await ask('object'), 500, 'handler_result_invalid');
  });

  it('refuses heads that are no heads, and lets none reach beyond its function', PATIENT, async () => {
    const id = await added(FORMS);
    const ask = (payload: string) =>
      stage.manager.send(`/f/${id}`, { method: 'POST', headers: keyed(), body: payload });
    for (const payload of ['many', 'large', 'injected', 'status']) {
      expectProblem(await ask(payload), 502, 'handler_response_invalid');
    }
    const { status, headers, text } = await ask('forbidden');
    expect({ status, text }).toEqual({ status: 200, text: 'here' });
    expect(headers['x-request-id']).not.toBe('mine');
    expect(headers['x-faas-runner']).toBeUndefined();
    expect(headers['service-worker-allowed']).toBeUndefined();
    expect(headers['strict-transport-security']).toBeUndefined();
    expect(headers['transfer-encoding']).toBeUndefined();
    expect(headers['content-security-policy']).toMatch(/^default-src 'self', sandbox /);
    const bytes = { method: 'POST', headers: keyed(), body: Buffer.from([0xff, 0xfe]) };
    expectProblem(await stage.manager.send(`/f/${id}`, bytes), 400, 'invalid_payload');
    const large = { method: 'POST', headers: keyed(), body: Buffer.alloc(6 * MIB + 1, 'x') };
    expectProblem(await stage.manager.send(`/f/${id}`, large), 413, 'payload_too_large');
  });

  it('asks for a key unless the function is public', PATIENT, async () => {
    const { manager } = stage;
    const id = await added(ECHO, { name: 'open' });
    const strangers = (path: string, headers: Record<string, string> = {}) => manager.send(path, { headers });
    expectProblem(await strangers('/f/open'), 401, 'unauthorized');
    expectProblem(await strangers('/f/nobody'), 401, 'unauthorized');
    const publish = (isPublic: boolean) =>
      manager.send(`/functions/${id}`, {
        method: 'PATCH',
        headers: keyed(),
        body: JSON.stringify({ public: isPublic }),
      });
    expect((await publish(true)).json()).toMatchObject({ public: true });
    expect((await strangers('/f/open')).status).toBe(200);
    const token = 'Bearer a-token-of-the-function';
    const answer = await strangers('/f/open', { Authorization: token, Origin: 'https://page.example' });
    expect((answer.json() as Echo).headers).toMatchObject({ authorization: token, origin: 'https://page.example' });
    expect(Object.keys(((await get('/f/open')).json() as Echo).headers)).not.toContain('x-api-key');
    expectProblem(
      await manager.send('/functions/open/execute', { method: 'POST', body: '{"payload":""}' }),
      401,
      'unauthorized',
    );
    // A manager that has just begun has yet to hear of it.
    const other = await stage.start({ API_KEYS: KEY });
    const many = await Promise.all(Array.from({ length: 40 }, () => other.send('/f/open')));
    expect(new Set(many.map(({ status }) => status))).toEqual(new Set([200]));
    await publish(false);
    expectProblem(await strangers('/f/open'), 401, 'unauthorized');
  });

  it('reaches functions by names under a domain', PATIENT, async () => {
    await added(ECHO, { name: 'hosted' });
    const answer = await get('/f/not-a-root?x=1', { Host: 'hosted.fn.example:8080' });
    const echo = answer.json() as Echo;
    expect(echo).toMatchObject({ path: '/f/not-a-root', query: 'x=1' });
    expect(echo.headers).toMatchObject({ host: 'hosted.fn.example:8080' });
    expect(echo.headers['x-forwarded-prefix']).toBeUndefined();
    expect(answer.headers['content-security-policy']).toBeUndefined();
    expectProblem(await get('/functions', { Host: 'nobody.fn.example' }), 404, 'function_not_found');
    expect((await get('/x', { Host: 'hosted.fn.example.:8080' })).json()).toMatchObject({ path: '/x' });
    // A target may have all of the address, as proxies are sent it, but of no other host.
    const { port } = new URL(stage.manager.url);
    const absolute = (host: string) =>
      `GET http://hosted.fn.example/a?b=c HTTP/1.1\r\nHost: ${host}\r\nX-Api-Key: ${KEY}\r\nConnection: close\r\n\r\n`;
    const received = await converse(Number(port), absolute('hosted.fn.example')).received;
    expect(received).toMatch(/"path":"\/a","query":"b=c"/);
    expect(await converse(Number(port), absolute('other.fn.example')).received).toMatch(/^HTTP\/1\.1 400 /);
  });

  it('runs applications of ASGI, with their root and their lifespan', PATIENT, async () => {
    const id = await added(APP, {}, { name: 'app' });
    expect((await get(`/f/${id}/started`)).text).toBe('1');
    const root = await get(`/f/${id}/root`);
    expect(root).toMatchObject({ status: 200, text: `/f/${id}`, headers: { 'content-type': 'text/html' } });
    expect(root.headers['content-security-policy']).toMatch(/^sandbox /);
    expect(await get(`/f/${id}/nothing`)).toMatchObject({ status: 404, text: 'not here' });
    expectProblem(await stage.manager.call(id, 'x', { headers: keyed() }), 500, 'handler_error');
  });

  it('runs applications of WSGI', PATIENT, async () => {
    const id = await added(WSGI, {}, { name: 'app' });
    const sent = { method: 'POST', headers: keyed({ 'X-Mine': 'yes' }), body: Buffer.alloc(300_000) };
    const answer = await stage.manager.send(`/f/${id}/a%20b?x=1`, sent);
    expect(answer).toMatchObject({ status: 201, text: `POST|/f/${id}|/a b|x=1|yes|300000` });
    expect(answer.headers['x-a']).toBe('1, 2');
    expect((await get(`/f/${id}/stream`)).text).toBe('0\n1\n2\n');
    const executed = await stage.manager.call(id, 'four', { headers: keyed() });
    expect(executed.json()).toEqual({ result: 'POST||/|||4' });
  });

  it('streams bodies both ways at once, and never keeps them whole', PATIENT, async () => {
    const id = await added(APP, {}, { name: 'app', timeoutMs: 150_000 });
    const before = process.memoryUsage().arrayBuffers;
    let most = 0;
    const watching = setInterval(() => (most = Math.max(most, process.memoryUsage().arrayBuffers)), 5);
    let came = 0;
    const echoed = await opened(`/f/${id}/echo`, Readable.from(manyBytes(192)));
    for await (const chunk of echoed) came += (chunk as Buffer).length;
    expect(came).toBe(192 * MIB);
    clearInterval(watching);
    expect(most - before).toBeLessThan(160 * MIB);
    const body = Buffer.alloc(8 * MIB, 'abcdefgh');
    expect((await buffer(await opened(`/f/${id}/echo`, body))).equals(body)).toBe(true);
    expect((await buffer(await opened(`/f/${id}/begun`, body))).toString()).toBe(`begun ${body.length}`);
    const length = await stage.manager.send(`/f/${id}/length`, { method: 'POST', headers: keyed(), body });
    expect(length.text).toBe(String(body.length));
    // An answer may come before the body has been sent.
    expect(await stage.manager.send(`/f/${id}/early`, { method: 'POST', headers: keyed(), body })).toMatchObject({
      status: 413,
      text: 'no, thank you',
    });
    expect((await get(`/f/${id}/started`)).text).toBe('1');
  });

  it('takes the next request of a connection whose last body was not wanted', PATIENT, async () => {
    const id = await added(APP, { public: true }, { name: 'app' });
    const { port } = new URL(stage.manager.url);
    const line = (method: string, path: string) => `${method} /f/${id}/${path} HTTP/1.1\r\nHost: x\r\n`;
    const size = 4 * MIB;
    const sent = [
      Buffer.from(`${line('POST', 'early')}Content-Length: ${size}\r\n\r\n`),
      Buffer.alloc(size, 'x'),
      Buffer.from(`${line('GET', 'started')}Connection: close\r\n\r\n`),
    ];
    const received = await converse(Number(port), Buffer.concat(sent)).received;
    expect(received).toMatch(/^HTTP\/1\.1 413 [^]*no, thank you[^]*HTTP\/1\.1 200 /);
  });

  it('says to HEAD what it says to others', PATIENT, async () => {
    const id = await added(APP, {}, { name: 'app' });
    for (const method of ['HEAD', 'GET']) {
      const answer = await stage.manager.send(`/f/${id}/raises`, { method, headers: keyed() });
      expect(answer.status).toBe(500);
    }
    expect(await stage.manager.send(`/f/${id}/early`, { method: 'HEAD', headers: keyed() })).toMatchObject({
      status: 413,
    });
  });

  it(
    'lets a worker write no faster than its caller reads, and frees the slot of one that leaves',
    PATIENT,
    async () => {
      const id = await added(APP, {}, { name: 'app', concurrency: 1, max_replicas: 1 });
      const endless = await opened(`/f/${id}/endless`, undefined, 'GET');
      endless.pause();
      await vi.waitFor(async () => expect(await inFlight(id)).toBe(1), PATIENT);
      const before = process.memoryUsage().arrayBuffers;
      await new Promise((resolve) => setTimeout(resolve, 500));
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 * MIB);
      endless.destroy();
      await vi.waitFor(async () => expect(await inFlight(id)).toBe(0), PATIENT);
      await vi.waitFor(async () => expect((await stage.manager.logOf(id)).join('\n')).toContain('stopped'), PATIENT);
      expect((await get(`/f/${id}/started`)).text).toBe('1');
    },
  );

  it('ends answers that go on for ever, or say nothing more', PATIENT, async () => {
    const id = await added(APP, {}, { name: 'app', timeoutMs: 1_500 });
    const endless = await opened(`/f/${id}/endless`, undefined, 'GET');
    await expect(buffer(endless)).rejects.toThrow(/aborted/);
    const patient = await added(APP, {}, { name: 'app', timeoutMs: 60_000 });
    const began = performance.now();
    await expect(buffer(await opened(`/f/${patient}/silent`, undefined, 'GET'))).rejects.toThrow(/aborted/);
    expect(performance.now() - began).toBeLessThan(50_000);
    await expect(buffer(await opened(`/f/${patient}/late`, undefined, 'GET'))).rejects.toThrow(/aborted/);
    for (const one of [id, patient]) expect((await get(`/f/${one}/started`)).text).toBe('1');
  });

  it('lets no second request be smuggled in', PATIENT, async () => {
    const id = await added(ECHO, { public: true });
    const { port } = new URL(stage.manager.url);
    const line = `POST /f/${id} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n`;
    for (const framing of [
      'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /f/smuggled HTTP/1.1\r\nHost: x\r\n\r\n',
      'Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!',
      'Transfer-Encoding: xchunked\r\n\r\nhello',
    ]) {
      const received = await converse(Number(port), line + framing).received;
      // Or it is cut off with what came after.
      expect(received).toMatch(/^$|^HTTP\/1\.1 (400|501) /);
    }
    const chunked = `${line}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n`;
    const received = await converse(Number(port), chunked).received;
    expect(received).toContain(Buffer.from('hello').toString('base64'));
    expect(received.toLowerCase()).not.toContain('x-trailer');
  });
});
