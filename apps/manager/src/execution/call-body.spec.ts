import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ManagerOverloaded } from '../admission/errors.js';
import { checkedBody, readBody } from './call-body.js';

const LIMIT = 1_000;
const anyText = fc.string({ unit: 'binary' });
const payloadOf = (body: Buffer) => (JSON.parse(body.toString('utf8')) as { payload: string }).payload;

describe('checkedBody', () => {
  it('passes a body that holds the payload alone through, byte for byte', () => {
    fc.assert(
      fc.property(anyText, fc.constantFrom('', ' ', '\n\t'), (payload, space) => {
        const body = Buffer.from(`{${space}"payload"${space}:${space}${JSON.stringify(payload)}${space}}`);
        expect(checkedBody(body, LIMIT)).toBe(body);
      }),
    );
  });

  it('leaves out everything else the body holds', () => {
    fc.assert(
      fc.property(anyText, fc.dictionary(fc.string(), fc.jsonValue(), { minKeys: 1 }), (payload, others) => {
        const given = { ...others, payload };
        const sent = checkedBody(Buffer.from(JSON.stringify(given)), LIMIT);
        expect(JSON.parse(sent.toString('utf8'))).toEqual({ payload });
      }),
    );
    const sent = checkedBody(Buffer.from('{"__proto__": {"payload": "x"}, "payload": "\\ud800"}'), LIMIT);
    expect(sent.toString()).toBe('{"payload":"\\ud800"}');
  });

  it.each([
    ['', 'empty'],
    ['payload', 'not JSON'],
    ['\ufeff{"payload":"x"}', 'not JSON'],
    ['{"payload":"x"} x', 'not JSON'],
    ['[{"payload":"x"}]', 'not a JSON object'],
    ['null', 'not a JSON object'],
    ['"payload"', 'not a JSON object'],
    ['{}', 'is missing'],
    ['{"__proto__":{"payload":"x"}}', 'is missing'],
    ['{"payload":null}', 'is null'],
    ['{"payload":1}', 'is a number'],
    ['{"payload":["x"]}', 'is an array'],
    ['{"payload":{}}', 'is an object'],
  ])('refuses %j and says what is wrong', (body, told) => {
    expect(() => checkedBody(Buffer.from(body), LIMIT)).toThrow(told);
  });

  it('refuses what is not UTF-8', () => {
    expect(() => checkedBody(Buffer.from('7b227061796c6f6164223a22ff227d', 'hex'), LIMIT)).toThrow('not UTF-8');
  });

  it.each(['x', 'é', '€', '😀'])('counts the payload in bytes of UTF-8, to the byte: %s', (character) => {
    const size = Buffer.byteLength(character);
    const body = Buffer.from(JSON.stringify({ payload: character.repeat(30) }));
    expect(payloadOf(checkedBody(body, 30 * size))).toHaveLength(character.length * 30);
    expect(() => checkedBody(body, 30 * size - 1)).toThrow('larger than the limit');
  });

  it('takes a payload at the limit however it is escaped', () => {
    const escaped = `{"payload":"${'\\u0000'.repeat(LIMIT)}"}`;
    expect(payloadOf(checkedBody(Buffer.from(escaped), LIMIT))).toHaveLength(LIMIT);
  });
});

describe('readBody', () => {
  const requestOf = (chunks: readonly (string | Buffer)[], headers: Record<string, string> = {}) =>
    Object.assign(Readable.from(chunks.map((chunk) => Buffer.from(chunk))), { headers }) as unknown as IncomingMessage;
  const most = LIMIT * 6 + 64 * 1024;
  const ENOUGH = { add: () => undefined };

  it('joins what arrives', async () => {
    expect((await readBody(requestOf(['ab', 'c']), LIMIT, ENOUGH)).toString()).toBe('abc');
    expect(await readBody(requestOf([]), LIMIT, ENOUGH)).toHaveLength(0);
  });

  it('refuses a body that can’t hold a payload within the limit, announced or not', async () => {
    expect(await readBody(requestOf([Buffer.alloc(most)]), LIMIT, ENOUGH)).toHaveLength(most);
    const refusal = { code: 'payload_too_large' };
    await expect(readBody(requestOf([Buffer.alloc(most), 'x']), LIMIT, ENOUGH)).rejects.toMatchObject(refusal);
    await expect(readBody(requestOf([], { 'content-length': `${most + 1}` }), LIMIT, ENOUGH)).rejects.toMatchObject(
      refusal,
    );
  });

  it('keeps nothing of a body that there is no room for', async () => {
    let room = 3;
    const holding = {
      add: (bytes: number) => {
        if (bytes > room) throw new ManagerOverloaded(3);
        room -= bytes;
      },
    };
    const refusal = { code: 'manager_overloaded' };
    await expect(readBody(requestOf(['ab', 'cd', 'e']), LIMIT, holding)).rejects.toMatchObject(refusal);
    expect(room).toBe(1);
  });

  it('refuses compressed bodies and notices callers who leave', async () => {
    const gzip = readBody(requestOf([], { 'content-encoding': 'gzip' }), LIMIT, ENOUGH);
    await expect(gzip).rejects.toMatchObject({ code: 'unsupported_encoding' });
    const request = requestOf(['a', 'b']);
    const cut = expect(readBody(request, LIMIT, ENOUGH)).rejects.toMatchObject({ code: 'call_cancelled' });
    request.destroy();
    await cut;
  });
});
