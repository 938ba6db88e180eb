import { randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { describeOnAnyEngine } from '../support/engines.js';
import { ECHO as PLAIN } from '../support/handlers.js';
import { expectProblem, type Sent } from '../support/http.js';
import { accepted, type Invocation, listener, read, until } from '../support/invocations.js';
import { Stage } from '../support/stage.js';

const KEY = 'a-key-of-this-suite';

const ECHO = `
import base64, faas

tried = []

def handle(payload, context):
    match context.path:
        case "/teapot": return faas.Response(418, {"X-Kind": "tea"}, b"short and stout")
        case "/bytes": return bytes(range(256))
        case "/large": return "x" * 200_000
        case "/stream": return (f"line {n}\\n" for n in range(3))
        case "/broken": return faas.Response(503, {}, "not today")
        case "/raises": raise ValueError("oh")
        case "/third":
            tried.append(context.attempt)
            return tried if context.attempt == 3 else faas.Response(500, {}, "again")
        case "/event": return {"event": context.event, "data": context.event and context.event.data}
    return {
        "method": context.method,
        "path": context.path,
        "query": context.query_string,
        "headers": dict(context.headers),
        "body": base64.b64encode(context.body).decode(),
        "request_id": context.request_id,
    }
`;

interface Echo {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly request_id: string;
}

const ASYNC = { Prefer: 'respond-async' };
const EVENT = { specversion: '1.0', id: 'e-1', source: '/sensors/7', type: 'com.example.measured' };
const BINARY = {
  'ce-specversion': '1.0',
  'ce-id': 'e-1',
  'ce-source': '/sensors/7',
  'ce-type': 'com.example.measured',
};
const STRUCTURED = { 'Content-Type': 'application/cloudevents+json' };

describeOnAnyEngine('HTTP calls for later', (engine) => {
  const stage = Stage.on(engine, { INVOCATIONS_RESULT_BYTES: '65536', MAX_PAYLOAD_BYTES: '100000' });
  const here = () => stage.manager;

  async function kept(path: string, sent: Sent = {}): Promise<Invocation> {
    const answer = await here().send(path, { method: 'POST', ...sent, headers: { ...ASYNC, ...sent.headers } });
    expect(answer.status, answer.text).toBe(202);
    expect(answer.headers['preference-applied']).toBe('respond-async');
    const invocation = answer.json() as Invocation;
    expect(answer.headers['location']).toBe(`/invocations/${invocation.id}`);
    return invocation;
  }

  async function answered(path: string, sent: Sent = {}) {
    const { id } = await kept(path, sent);
    const { response } = await until(here(), id, { status: 'succeeded' });
    return response!;
  }

  it('keep method, path, query, headers and any bytes, and what was answered', async () => {
    const { id } = await here().add(ECHO);
    const body = randomBytes(1_000);
    const headers = { 'Content-Type': 'image/png', 'Content-Encoding': 'br', 'X-Mine': 'yes' };
    const call = await kept(`/f/${id}/orders/7?colour=red&a=%20`, { method: 'PUT', headers, body });
    expect(call).toMatchObject({ http: { method: 'PUT', path: '/orders/7' }, payload_bytes: 1_000 });
    const { response, ...ended } = await until(here(), call.id, { status: 'succeeded' });
    expect(ended).not.toHaveProperty('result');
    expect(response).toMatchObject({
      status: 200,
      headers: expect.arrayContaining([{ name: 'content-type', value: 'application/json' }]),
    });
    const echo = JSON.parse(response!.body!) as Echo;
    expect(echo).toMatchObject({ method: 'PUT', path: '/orders/7', query: 'colour=red&a=%20', request_id: call.id });
    expect(Buffer.from(echo.body, 'base64')).toEqual(body);
    expect(echo.headers).toMatchObject({ 'x-mine': 'yes', 'content-encoding': 'br', 'x-forwarded-prefix': `/f/${id}` });
    expect(Object.keys(echo.headers)).not.toContain('prefer');
    await here().remove(id);
  });

  it('keep answers of every form, and of one that is too large its head', async () => {
    const { id } = await here().add(ECHO);
    expect(await answered(`/f/${id}/teapot`)).toMatchObject({
      status: 418,
      headers: expect.arrayContaining([{ name: 'x-kind', value: 'tea' }]),
      body: 'short and stout',
    });
    const bytes = await answered(`/f/${id}/bytes`, { method: 'GET' });
    expect(Buffer.from(bytes.body_base64!, 'base64')).toEqual(Buffer.from(Array.from({ length: 256 }, (_, n) => n)));
    expect(bytes).not.toHaveProperty('body');
    expect(await answered(`/f/${id}/stream`)).toMatchObject({ status: 200, body: 'line 0\nline 1\nline 2\n' });
    const head = await here().send(`/f/${id}`, { method: 'HEAD', headers: ASYNC });
    expect(head.status).toBe(202);
    const asked = String(head.headers['location']).replace('/invocations/', '');
    await until(here(), asked, { status: 'succeeded', http: { method: 'HEAD' }, response: { status: 200, body: '' } });
    const { id: large } = await kept(`/f/${id}/large`);
    const ended = await until(here(), large, { status: 'succeeded', result_bytes: 200_000 });
    expect(ended.response).toMatchObject({ status: 200 });
    expect(ended.response).not.toHaveProperty('body');
    await here().remove(id);
  });

  it('are tried again after an answer of 500 and more, as the function says', async () => {
    const { id } = await here().add(ECHO, { invocation_defaults: JSON.stringify({ max_attempts: 3, backoff_ms: 1 }) });
    expect(JSON.parse((await answered(`/f/${id}/third`)).body!)).toEqual([1, 2, 3]);
    const { id: broken } = await kept(`/f/${id}/broken`);
    const error = { code: 'handler_error', detail: 'It answered 503: not today' };
    const failed = { status: 'failed', code: 'handler_error' };
    await until(here(), broken, { status: 'dead', attempt: 3, error, attempts: [failed, failed, failed] });
    const { id: raises } = await kept(`/f/${id}/raises`);
    await until(here(), raises, { status: 'dead', attempt: 3, error: { detail: 'ValueError: oh' } });
    await here().send(`/functions/${id}`, { method: 'PATCH', body: '{"invocation_defaults": {"max_attempts": 1}}' });
    const { id: once, max_attempts } = await kept(`/f/${id}/raises`);
    expect(max_attempts).toBe(1);
    await until(here(), once, { status: 'dead', attempt: 1 });
    await here().remove(id);
  });

  it('are refused where their body is too large, and come once for each key', async () => {
    const { id } = await here().add(ECHO);
    const large = { method: 'POST', headers: ASYNC, body: Buffer.alloc(100_001) };
    expectProblem(await here().send(`/f/${id}`, large), 413, 'payload_too_large');
    expectProblem(await here().send('/f/nobody', { method: 'POST', headers: ASYNC }), 404, 'function_not_found');
    const headers = { 'Idempotency-Key': 'one' };
    const first = await kept(`/f/${id}/a`, { headers, body: 'x' });
    expect((await kept(`/f/${id}/a`, { headers, body: 'x' })).id).toBe(first.id);
    for (const [path, body] of [
      ['a', 'y'],
      ['b', 'x'],
      ['a?q', 'x'],
    ]) {
      const other = { method: 'POST', headers: { ...ASYNC, ...headers }, body: body! };
      expectProblem(await here().send(`/f/${id}/${path}`, other), 409, 'idempotency_key_reused');
    }
    await here().remove(id);
  });

  it('give an event to handlers that ask for it, at once and later, in both modes', async () => {
    const { id } = await here().add(ECHO);
    const json = { ...BINARY, 'Content-Type': 'application/json' };
    const data = { celsius: 21.5 };
    const expected = { event: { ...EVENT, datacontenttype: 'application/json' }, data };
    const binary: Sent = { method: 'POST', headers: json, body: JSON.stringify(data) };
    expect((await here().send(`/f/${id}/event`, binary)).json()).toEqual(expected);
    const structured: Sent = { method: 'POST', headers: STRUCTURED, body: JSON.stringify({ ...EVENT, data }) };
    expect((await here().send(`/f/${id}/event`, structured)).json()).toEqual({ event: EVENT, data });
    const none = (await here().send(`/f/${id}/event`, { method: 'POST', body: 'x' })).json();
    expect(none).toEqual({ event: null, data: null });
    for (const sent of [binary, structured]) {
      const answer = await here().send(`/functions/${id}/invocations`, sent);
      expect(answer.status, answer.text).toBe(202);
      const invocation = answer.json() as Invocation;
      expect(invocation.http).toEqual({ method: 'POST', path: '/' });
      const { response } = await until(here(), invocation.id, { status: 'succeeded' });
      expect(JSON.parse(response!.body!)).toMatchObject({ method: 'POST', path: '/' });
    }
    await here().remove(id);
  });

  it('refuse what says that it is an event and is none, with the attribute', async () => {
    const { id } = await here().add(ECHO);
    const { 'ce-source': _, ...noSource } = BINARY;
    const badTime = JSON.stringify({ ...EVENT, time: 'yesterday' });
    const badData = JSON.stringify({ ...EVENT, data_base64: 'YQ' });
    for (const path of [`/f/${id}/event`, `/functions/${id}/invocations`]) {
      const refused = async (sent: Sent, field: string, text: string) => {
        const problem = expectProblem(await here().send(path, { method: 'POST', ...sent }), 400, 'invalid_event');
        expect(problem['field']).toBe(field);
        expect(problem.detail).toMatch(text);
      };
      await refused({ headers: noSource, body: 'x' }, 'source', 'missing');
      await refused({ headers: STRUCTURED, body: badTime }, 'time', 'RFC 3339');
      await refused({ headers: STRUCTURED, body: badData }, 'data_base64', 'must be base64');
      await refused({ headers: STRUCTURED, body: 'x' }, 'body', 'not JSON');
      const packed = { headers: { ...STRUCTURED, 'Content-Encoding': 'gzip' }, body: gzipSync(JSON.stringify(EVENT)) };
      await refused(packed, 'Content-Encoding', 'uncompressed');
    }
    const batch = { method: 'POST', headers: { 'Content-Type': 'application/cloudevents-batch+json' }, body: '[]' };
    expectProblem(await here().send(`/functions/${id}/invocations`, batch), 400, 'invalid_event');
    // What the manager never sees whole, the worker looks at.
    const long = { ...EVENT, id: undefined, data: 'x'.repeat(80_000) };
    const sent = { method: 'POST', headers: STRUCTURED, body: JSON.stringify(long) };
    expect(expectProblem(await here().send(`/f/${id}/event`, sent), 400, 'invalid_event')['field']).toBe('id');
    await here().remove(id);
  });
});

describeOnAnyEngine('HTTP calls for later of public functions', (engine) => {
  const stage = Stage.on(engine, { API_KEYS: KEY });

  it('ask for a key all the same', async () => {
    const { id } = await stage.manager.add(ECHO, { public: true });
    const call = (headers: Record<string, string>) =>
      stage.manager.send(`/f/${id}/orders`, { method: 'POST', headers: { ...ASYNC, ...headers } });
    expectProblem(await call({}), 401, 'unauthorized');
    const answer = await call({ 'X-Api-Key': KEY });
    expect(answer.status, answer.text).toBe(202);
    expect((answer.json() as Invocation).created_by).toBe('default');
    await stage.manager.send(`/functions/${id}`, { method: 'DELETE', headers: { 'X-Api-Key': KEY } });
  });
});

describeOnAnyEngine('defaults of calls for later', (engine) => {
  const stage = Stage.on(engine, {
    CALLBACKS_SECRETS: 'a-secret-of-callbacks-0123456789',
    CALLBACKS_ALLOW: '127.0.0.0/8',
  });
  const here = () => stage.manager;

  it('are kept with the function, and given way by what a call says', async () => {
    const { id, ...added } = await here().add(ECHO, {
      invocation_defaults: '{"max_attempts": 5, "retry_on": ["crash"]}',
    });
    expect(added.invocation_defaults).toEqual({ max_attempts: 5, retry_on: ['crash'] });
    const patch = (defaults: unknown) =>
      here().send(`/functions/${id}`, { method: 'PATCH', body: JSON.stringify({ invocation_defaults: defaults }) });
    const changed = await patch({ max_attempts: null, max_age_ms: 60_000 });
    expect(changed.json()).toMatchObject({ invocation_defaults: { retry_on: ['crash'], max_age_ms: 60_000 } });
    const call = await accepted(here(), id, { payload: '' });
    expect(call.max_attempts).toBe(3);
    expect(Date.parse(call.expires_at) - Date.parse(call.due_at)).toBe(60_000);
    const own = await accepted(here(), id, { payload: '', max_age_ms: 1_000, max_attempts: 2 });
    expect(Date.parse(own.expires_at) - Date.parse(own.due_at)).toBe(1_000);
    const refused = async (defaults: unknown, text: string) => {
      const problem = expectProblem(await patch(defaults), 400, 'invalid_update');
      expect(problem['field']).toBe('invocation_defaults');
      expect(problem.detail).toMatch(text);
    };
    await refused({ max_attempts: 0 }, 'invocation_defaults.max_attempts must be a whole number from 1 to');
    await refused({ retry_on: ['always'] }, 'invocation_defaults.retry_on must be a list of error, timeout, crash');
    await refused({ callback_format: 'xml' }, 'invocation_defaults.callback_format must be plain, binary, structured');
    await refused({ callback_url: 'http://10.0.0.1/' }, 'invocation_defaults.callback_url leads to 10.0.0.1');
    await refused({ delay_ms: 1 }, 'no member "delay_ms"');
    await refused({ callback_url: 'http://example.org/\0' }, 'invocation_defaults.callback_url holds characters');
    await refused('x', 'must be a JSON object');
    expect((await patch(null)).json()).toMatchObject({ invocation_defaults: {} });
    await here().remove(id);
  });

  it('may have callbacks, plain or as events', async () => {
    const { url, told, close } = await listener([200]);
    const { id } = await here().add(PLAIN, {
      invocation_defaults: JSON.stringify({ callback_url: url, callback_format: 'binary' }),
    });
    const first = await accepted(here(), id, { payload: 'x' });
    await until(here(), first.id, { callback: { url, format: 'binary', status: 'delivered' } });
    const { headers, body } = told[0]!;
    expect(headers).toMatchObject({
      'content-type': 'application/json',
      'ce-specversion': '1.0',
      'ce-id': first.id,
      'ce-source': `/functions/${id}`,
      'ce-type': 'service-faas.invocation.succeeded',
      'webhook-id': first.id,
    });
    expect(JSON.parse(body.toString())).toMatchObject({ id: first.id, status: 'succeeded' });
    expect(await accepted(here(), id, { payload: 'x', callback_url: null })).toMatchObject({ callback: null });
    const second = await accepted(here(), id, { payload: 'x', callback_format: 'structured' });
    await until(here(), second.id, { callback: { format: 'structured', status: 'delivered' } });
    expect(told[1]!.headers['content-type']).toBe('application/cloudevents+json');
    expect(JSON.parse(told[1]!.body.toString())).toMatchObject({
      specversion: '1.0',
      id: second.id,
      type: 'service-faas.invocation.succeeded',
      datacontenttype: 'application/json',
      data: { id: second.id, status: 'succeeded', result: 'x' },
    });
    await close();
    await here().remove(id);
  });

  it('tell of HTTP calls with their answers', async () => {
    const { url, told, close } = await listener([200]);
    const { id } = await here().add(ECHO, { invocation_defaults: JSON.stringify({ callback_url: url }) });
    const answer = await here().send(`/f/${id}/teapot`, { method: 'POST', headers: ASYNC });
    const { id: call } = answer.json() as Invocation;
    await until(here(), call, { callback: { status: 'delivered' } });
    expect(JSON.parse(told[0]!.body.toString())).toMatchObject({
      id: call,
      response: { status: 418, body: 'short and stout' },
    });
    expect(await read(here(), call)).toMatchObject({ response: { status: 418 } });
    await close();
    await here().remove(id);
  });
});
