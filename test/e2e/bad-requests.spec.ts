import { beforeAll, describe, expect, it, vi } from 'vitest';
import { describeOnAnyEngine } from '../support/engines.js';
import { ECHO } from '../support/handlers.js';
import { converse, expectProblem } from '../support/http.js';
import { Stage } from '../support/stage.js';
import { upload } from '../support/uploads.js';

const STRANGE_IDS = [
  'aaaaaaaaaaaaaaaa',
  'x',
  'a'.repeat(5_000),
  '..',
  '%2e%2e',
  '..%2Ffunctions',
  'a%2Fb',
  '%00',
  'aaaaaaaaaaaaaaa%00',
  '%',
  '%zz',
  '%c3%28',
  '%F0%9F%92%A5',
  "'%20OR%20'1'='1",
  '{id}',
  'null',
];

const long = (bytes: number) => ({ headers: { 'X-Long': 'x'.repeat(bytes) } });
const start = (path: string, more = '') => `POST ${path} HTTP/1.1\r\nHost: localhost\r\n${more}`;

describeOnAnyEngine('a request', (engine) => {
  const stage = Stage.on(engine, { REQUEST_TIMEOUT_MS: '1500' });
  let id: string;
  beforeAll(async () => {
    ({ id } = await stage.manager.add(ECHO));
  });
  const raw = (text: string | Buffer) => converse(stage.manager.port, text);

  it.each(STRANGE_IDS)('for the id %j is answered 404 by every operation', async (strange) => {
    const { manager } = stage;
    const paths = [
      ['GET', `/functions/${strange}`],
      ['GET', `/functions/${strange}/code`],
      ['DELETE', `/functions/${strange}`],
      ['POST', `/functions/${strange}/execute`],
    ] as const;
    for (const [method, path] of paths) {
      const answer = await manager.send(path, { method, ...(method === 'POST' && { body: '{"payload":"x"}' }) });
      const { code } = answer.json() as { code: string };
      expectProblem(answer, 404, code);
      expect(['function_not_found', 'route_not_found']).toContain(code);
    }
  });

  it('for an id in capitals is answered 404', async () => {
    expectProblem(await stage.manager.call(id.toUpperCase()), 404, 'function_not_found');
    expectProblem(await stage.manager.remove(id.toUpperCase()), 404, 'function_not_found');
    expect((await stage.manager.call(id, 'x')).status).toBe(200);
  });

  it.each([
    ['GET', '/'],
    ['GET', '/function'],
    ['GET', '/functions/a/b/c'],
    ['GET', '/favicon.ico'],
    ['GET', '/../../etc/passwd'],
    ['GET', '//functions'],
    ['POST', '/functions/aaaaaaaaaaaaaaaa/execute/now'],
    ['OPTIONS', '/nowhere'],
  ])('of no known route is answered 404: %s %s', async (method, path) => {
    const problem = expectProblem(await stage.manager.send(path, { method }), 404, 'route_not_found');
    expect(problem.detail).toContain(method);
  });

  it.each([
    ['PUT', '/functions', 'GET, HEAD, POST'],
    ['DELETE', '/functions/', 'GET, HEAD, POST'],
    ['PUT', '/functions/aaaaaaaaaaaaaaaa', 'DELETE, GET, HEAD, PATCH'],
    ['POST', '/functions/aaaaaaaaaaaaaaaa', 'DELETE, GET, HEAD, PATCH'],
    ['GET', '/functions/aaaaaaaaaaaaaaaa/execute', 'POST'],
    ['PUT', '/functions/aaaaaaaaaaaaaaaa/execute/', 'POST'],
    ['POST', '/livez', 'GET, HEAD'],
    ['TRACE', '/functions', 'GET, HEAD, POST'],
    ['DELETE', '/docs/doc.json', 'GET, HEAD'],
  ])('by a method that its path does not know is answered 405: %s %s', async (method, path, allowed) => {
    const answer = await stage.manager.send(path, { method });
    const problem = expectProblem(answer, 405, 'method_not_allowed');
    expect(problem.detail).toContain(method);
    expect(answer.headers['allow']).toBe(allowed);
    expect(await stage.manager.send(path, { method: 'OPTIONS' })).toMatchObject({
      status: 204,
      text: '',
      headers: { allow: allowed },
    });
  });

  it.each([
    ['Limit', 'GET', '/functions?Limit=1', 'Known: name, label, status, limit, after.'],
    ['limit[]', 'GET', '/functions?limit[]=1', 'Known: name, label, status, limit, after.'],
    ['verbose', 'GET', '/livez?verbose', 'This takes none.'],
    ['timeout', 'POST', '/functions?timeout=5', 'This takes none.'],
    ['timeout', 'POST', '/functions/aaaaaaaaaaaaaaaa/execute?timeout=5', 'Known: revision, tag.'],
    ['x', 'GET', '/functions/aaaaaaaaaaaaaaaa/code?x=1', 'This takes none.'],
    ['exclude', 'GET', '/readyz?exclude=databse', 'Known: database, engine.'],
    ['exclude', 'GET', '/readyz?exclude=engine&exclude=', 'Known: database, engine.'],
    ['Exclude', 'GET', '/readyz?Exclude=engine', 'Known: exclude.'],
  ])('with a query that says nothing (%s) is refused: %s %s', async (parameter, method, path, known) => {
    const problem = expectProblem(await stage.manager.send(path, { method }), 400, 'invalid_request');
    expect(problem.parameter).toBe(parameter);
    expect(problem.detail).toContain(known);
  });

  it.each(['gzip, chunked', 'deflate, Chunked'])(
    'whose body is sent as %s is answered 501 and its connection closed',
    async (coding) => {
      const chunks = 'd\r\n{"payload":""\r\n1\r\n}\r\n0\r\n\r\n';
      const received = await raw(
        `${start(`/functions/${id}/execute`, `Transfer-Encoding: ${coding}\r\n`)}\r\n${chunks}`,
      ).received;
      expect(received).toMatch(/^HTTP\/1\.1 501 Not Implemented\r\n/);
      expect(received).toContain('"code":"unsupported_transfer_coding"');
    },
  );

  it('by HEAD is answered as by GET, without the body', async () => {
    for (const path of ['/functions', `/functions/${id}`, `/functions/${id}/code`, '/livez']) {
      const [get, head] = [await stage.manager.send(path), await stage.manager.send(path, { method: 'HEAD' })];
      expect(head).toMatchObject({ status: 200, text: '' });
      expect(head.headers['content-type']).toBe(get.headers['content-type']);
      expect(head.headers['content-length']).toBe(get.headers['content-length']);
    }
    expect(await stage.manager.send('/functions/aaaaaaaaaaaaaaaa', { method: 'HEAD' })).toMatchObject({
      status: 404,
      text: '',
    });
  });

  it('may have 10,000 bytes of headers; with 20,000 it is answered 431', async () => {
    expect((await stage.manager.send('/functions', long(10_000))).status).toBe(200);
    const answer = await stage.manager.send('/functions', long(20_000));
    expectProblem(answer, 431, 'headers_too_large');
    expect((await stage.manager.send(`/functions?${'x'.repeat(20_000)}`)).status).toBe(431);
  });

  it.each([
    'GARBAGE\r\n\r\n',
    '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
    'GET /functions HTTP/9.9\r\n\r\n',
    'GET /functions HTTP/1.1\r\nBad Header: x\r\n\r\n',
    'GET /functions HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n',
    'POST /functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n',
    'POST /functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
  ])('that is no HTTP is answered 400 and its connection closed: %j', async (text) => {
    const received = await raw(text).received;
    expect(received).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(received).toMatch(/Content-Type: application\/problem\+json/i);
    expect(JSON.parse(received.slice(received.indexOf('\r\n\r\n')))).toMatchObject({
      status: 400,
      code: 'invalid_request',
    });
  });

  it.each([
    ['two Host headers', 'GET /functions HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n'],
    ['the same Host header twice', 'GET /functions HTTP/1.1\r\nHOST: localhost\r\nX: y\r\nhost: localhost\r\n\r\n'],
    ['two Host headers in HTTP/1.0', 'GET /functions HTTP/1.0\r\nHost: localhost\r\nHost: localhost\r\n\r\n'],
    ['no Host header', 'GET /functions HTTP/1.1\r\n\r\n'],
    [
      'two Host headers and a payload',
      'POST /functions/aaaaaaaaaaaaaaaa/execute HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 14\r\n\r\n{"payload":""}',
    ],
  ])('with %s is answered 400 and its connection closed', async (_, text) => {
    const received = await raw(text).received;
    expect(received).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(received).toMatch(/Content-Type: application\/problem\+json/i);
    expect(JSON.parse(received.slice(received.indexOf('\r\n\r\n')))).toMatchObject({
      code: 'invalid_request',
      detail: expect.stringContaining('Host header') as string,
    });
  });

  it('in HTTP/1.0 needs no Host header', async () => {
    expect(await raw('GET /livez HTTP/1.0\r\n\r\n').received).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  });

  it('is answered in turn when several come at once on one connection', async () => {
    const whole = (payload: string, more = '') => {
      const body = JSON.stringify({ payload });
      return `${start(`/functions/${id}/execute`, more)}Content-Length: ${body.length}\r\n\r\n${body}`;
    };
    const list = 'GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n';
    const { received } = raw(whole('1') + whole('2') + list + whole('3') + whole('4', 'Connection: close\r\n'));
    const bodies = [...(await received).matchAll(/\{"(?:result|status)":"(\w+)"/g)].map(([, found]) => found);
    expect(bodies).toEqual(['1', '2', 'ok', '3', '4']);
  });

  it('after one that was refused is served on the same connection', async () => {
    const refused = `POST /functions/${id}/execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}`;
    const { headers, body } = upload(ECHO, 'no name');
    const form =
      `POST /functions HTTP/1.1\r\nHost: localhost\r\nContent-Type: ${headers['Content-Type']}\r\n` +
      `Content-Length: ${body.length}\r\n\r\n${body.toString()}`;
    const last = 'GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';
    const received = await raw(refused + form + refused + last).received;
    expect([...received.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).toEqual([
      '400',
      '400',
      '400',
      '200',
    ]);
  });

  describe('whose client stalls', () => {
    const body = 'Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 999\r\n\r\n';

    it.each([
      ['before its first byte', () => ''],
      ['in its headers', () => start('/functions', 'X-Slow:')],
      ['before its upload', () => start('/functions', body)],
      [
        'in its file',
        () =>
          `${start('/functions', body)}--b\r\nContent-Disposition: form-data; name="python_file"; filename="a"\r\n\r\nx`,
      ],
      ['before its payload', () => start(`/functions/${id}/execute`, 'Content-Length: 99\r\n\r\n')],
      ['in its payload', () => start(`/functions/${id}/execute`, 'Content-Length: 99\r\n\r\n{"payload": "')],
      ['in a chunk', () => start(`/functions/${id}/execute`, 'Transfer-Encoding: chunked\r\n\r\nff\r\n{')],
    ])('%s is answered 408, or closed, in time', async (_, text) => {
      const began = performance.now();
      const received = await raw(text()).received;
      expect(performance.now() - began).toBeLessThan(6_000);
      if (received !== '') expect(received).toMatch(/^HTTP\/1\.1 408 Request Timeout\r\n/);
    });

    it('costs nothing that lasts: the manager goes on', async () => {
      expect((await stage.manager.call(id, 'x')).status).toBe(200);
      expect((await stage.manager.send('/functions')).json()).toHaveLength(1);
      expect(stage.manager.log).not.toContain('unexpectedly');
    });
  });

  it('whose client leaves in the middle leaves nothing behind', async () => {
    const { headers, body } = upload(ECHO);
    const head = `POST /functions HTTP/1.1\r\nHost: localhost\r\nContent-Type: ${headers['Content-Type']}\r\nContent-Length: ${body.length}\r\n\r\n`;
    for (const part of [head, head + body.subarray(0, 90).toString()]) {
      const { socket, received } = raw(part);
      await vi.waitFor(() => expect(socket.bytesWritten).toBe(part.length));
      socket.resetAndDestroy();
      await received;
    }
    expect((await stage.manager.send('/functions')).json()).toHaveLength(1);
    await vi.waitFor(() => expect(stage.manager.log).toMatch(/cut off|aborted|"status":400/));
  });
});
