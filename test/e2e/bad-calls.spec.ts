import { gzipSync } from 'node:zlib';
import { beforeAll, expect, it } from 'vitest';
import { describeOnAnyEngine, describeOnEachLocalEngine } from '../support/engines.js';
import { ECHO, OBEDIENT } from '../support/handlers.js';
import { expectProblem } from '../support/http.js';
import { Stage } from '../support/stage.js';

const MIB = 1024 * 1024;
const BAD_BODIES: readonly { readonly what: string; readonly body: string | Buffer }[] = [
  { what: 'no body', body: '' },
  { what: 'white space', body: ' \n' },
  { what: 'half of a body', body: '{"payload": "x' },
  { what: 'two bodies', body: '{"payload": "x"}{"payload": "y"}' },
  { what: 'a form', body: 'payload=x' },
  { what: 'a string', body: '"x"' },
  { what: 'a number', body: '1' },
  { what: 'null', body: 'null' },
  { what: 'an array', body: '[{"payload": "x"}]' },
  { what: 'an empty object', body: '{}' },
  { what: 'another member', body: '{"Payload": "x"}' },
  { what: 'an inherited member', body: '{"__proto__": {"payload": "x"}}' },
  { what: 'a payload that is a number', body: '{"payload": 1}' },
  { what: 'a payload that is null', body: '{"payload": null}' },
  { what: 'a payload that is false', body: '{"payload": false}' },
  { what: 'a payload that is an array', body: '{"payload": ["x"]}' },
  { what: 'a payload that is an object', body: '{"payload": {"payload": "x"}}' },
  { what: 'single quotes', body: "{'payload': 'x'}" },
  { what: 'NaN', body: '{"payload": "x", "a": NaN}' },
  { what: 'a bare control character', body: '{"payload": "\n"}' },
  { what: 'a byte order mark', body: '\uFEFF{"payload": "x"}' },
  { what: 'bytes that are not UTF-8', body: Buffer.from([...Buffer.from('{"payload": "'), 0xff, 0x22, 0x7d]) },
  { what: 'UTF-16', body: Buffer.from('{"payload": "x"}', 'utf16le') },
  { what: 'a million brackets', body: '['.repeat(1_000_000) },
];

describeOnAnyEngine('the body of a call', (engine) => {
  const stage = Stage.on(engine);
  let id: string;
  beforeAll(async () => {
    ({ id } = await stage.manager.add(ECHO));
  });
  const call = (body: string | Buffer, headers = {}) =>
    stage.manager.send(`/functions/${id}/execute`, { method: 'POST', body, headers });

  it.each(BAD_BODIES)('that is $what is refused', async ({ body }) => {
    const problem = expectProblem(await call(body), 400, 'invalid_payload');
    expect(problem.field).toBe('payload');
    expect(problem.detail).toContain('{"payload": "<string>"}');
  });

  it('is read as JSON whatever its content type says', async () => {
    for (const type of [
      'application/json',
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data',
      '',
    ]) {
      expect((await call('{"payload": "x"}', { 'Content-Type': type })).text).toBe('{"result":"x"}');
    }
    expect((await call('{"payload": "x"}', { 'Content-Encoding': 'identity' })).status).toBe(200);
  });

  it('that is compressed is refused with 415', async () => {
    for (const encoding of ['gzip', 'br', 'zstd', 'GZIP']) {
      const answer = await call(gzipSync('{"payload": "x"}'), { 'Content-Encoding': encoding });
      expectProblem(answer, 415, 'unsupported_encoding');
    }
  });

  it.each([
    ['Timeout', '{"payload": "x", "Timeout": 5}'],
    ['other', `{"other": ${'['.repeat(2_000)}${']'.repeat(2_000)}, "payload": "x"}`],
    ['', '{"": null, "payload": "x"}'],
    ['__proto__', '{"__proto__": {}, "payload": "x"}'],
    ['note', JSON.stringify({ payload: 'x'.repeat(200_000), note: 'y' })],
    ['note', JSON.stringify({ note: 'y'.repeat(200_000), payload: 'x' })],
  ])('that holds another member, %j, is refused for it', async (field, body) => {
    const problem = expectProblem(await call(body), 400, 'invalid_payload');
    expect(problem.field).toBe(field);
    expect(problem.detail).toContain(`There is no member ${JSON.stringify(field)}`);
  });

  it('means the last of two payloads, as JSON.parse and Python have it', async () => {
    expect((await call('{"payload": "first", "payload": "last"}')).text).toBe('{"result":"last"}');
    expectProblem(await call('{"payload": "first", "payload": 2}'), 400, 'invalid_payload');
  });

  it('brings every text to the handler and back unharmed', async () => {
    const texts = [
      '',
      ' ',
      '\0',
      '"\\/\b\f\n\r\t',
      'é数💥\u2028\uFEFF',
      '\ud800',
      'a\udfffb',
      '\udc00\ud800',
      '{"payload": "x"}',
    ];
    for (const text of texts) {
      expect((await stage.manager.call(id, text)).json()).toEqual({ result: text });
      const escaped = Array.from({ length: text.length }, (_, index) => {
        return `\\u${text.charCodeAt(index).toString(16).padStart(4, '0')}`;
      });
      expect((await call(`{"payload":"${escaped.join('')}"}`)).json()).toEqual({ result: text });
    }
  });

  it('may hold a payload of exactly 6 MiB, and not one byte more', async () => {
    const answer = await stage.manager.call(id, 'x'.repeat(6 * MIB));
    expect({ status: answer.status, length: answer.text.length }).toEqual({ status: 200, length: 6 * MIB + 13 });
    const problem = expectProblem(await stage.manager.call(id, 'x'.repeat(6 * MIB + 1)), 413, 'payload_too_large');
    expect(problem).toMatchObject({ limit_bytes: 6 * MIB });
  });

  it('counts the payload in bytes of UTF-8 and not in those of its escapes', async () => {
    const exact = (await call(`{"payload":"${'\\u0041'.repeat(6 * MIB)}"}`)).text;
    expect(exact === `{"result":"${'A'.repeat(6 * MIB)}"}`).toBe(true);
    expectProblem(await call(`{"payload":"${'\\u0041'.repeat(6 * MIB + 1)}"}`), 413, 'payload_too_large');
    const measure = await stage.manager.add('def handle(payload):\n    return len(payload)\n');
    expect((await stage.manager.call(measure.id, 'é'.repeat(3 * MIB))).text).toBe(`{"result":${3 * MIB}}`);
    expectProblem(await stage.manager.call(measure.id, `${'é'.repeat(3 * MIB)}x`), 413, 'payload_too_large');
  });

  it('that can only be too large is refused, with a length and without', async () => {
    expectProblem(await call('x'.repeat(40 * MIB)), 413, 'payload_too_large');
    const chunked = await call('x'.repeat(40 * MIB), { 'Transfer-Encoding': 'chunked' });
    expectProblem(chunked, 413, 'payload_too_large');
  });
});

describeOnEachLocalEngine('the result of a call', (engine) => {
  const stage = Stage.on(engine);
  let id: string;
  beforeAll(async () => {
    ({ id } = await stage.manager.add(OBEDIENT));
  });

  it.each([
    ['None', 'null'],
    ['True', 'true'],
    ['1.0', '1.0'],
    ['0.1 + 0.2', '0.30000000000000004'],
    ['1e300 * 10', '1e+301'],
    ['-0.0', '-0.0'],
    ['2**200', '1606938044258990275541962092341162602522202993782792835301376'],
    ['12345678901234567890', '12345678901234567890'],
    ['"é💥\\u2028"', '"\\u00e9\\ud83d\\udca5\\u2028"'],
    ['"\\ud800"', '"\\ud800"'],
    ['{"b": 1, "a": 2, "10": 3, "9": 4}', '{"b":1,"a":2,"10":3,"9":4}'],
    ['(1, [2, {}])', '[1,[2,{}]]'],
    ['{1: "x", None: "y", "payload": "z"}', '{"1":"x","null":"y","payload":"z"}'],
    ['{"result": {"result": 1}}', '{"result":{"result":1}}'],
  ])('is passed on byte for byte: %s', async (expression, json) => {
    const answer = await stage.manager.call(id, `return ${expression}`);
    expect(answer).toMatchObject({ status: 200, text: `{"result":${json}}` });
    expect(answer.headers['content-type']).toBe('application/json');
    expect(answer.headers['content-length']).toBe(String(answer.body.length));
  });

  it('may be large', async () => {
    const answer = await stage.manager.call(id, 'return "x" * 39_000_000');
    expect({ status: answer.status, length: answer.body.length }).toEqual({ status: 200, length: 39_000_013 });
    expectProblem(await stage.manager.call(id, 'return "x" * 42_000_000'), 500, 'handler_result_invalid');
  });
});
