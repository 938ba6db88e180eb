import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ManagerOverloaded } from '../memory/errors.js';
import { checkedBody, readBody } from './call-body.js';
import { PARSED_BYTES } from './json-scan.js';

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

describe('checkedBody of a large body', () => {
  const MANY = 1_000_000;
  const LONG = 'x'.repeat(PARSED_BYTES);
  /** What the body means, by JSON.parse, which no large body is given otherwise. */
  const meant = (body: string): string => {
    try {
      // Half of a surrogate pair can't be sent.
      const { payload } = JSON.parse(body.toWellFormed()) as { payload?: unknown };
      return typeof payload === 'string' ? payload : 'refused';
    } catch {
      return 'refused';
    }
  };
  const taken = (body: string): string => {
    try {
      return payloadOf(checkedBody(Buffer.from(body), MANY));
    } catch (error) {
      expect(error).toMatchObject({ code: 'invalid_payload' });
      return 'refused';
    }
  };

  it('means what JSON.parse takes it for, whatever stands beside the payload and however it is broken', () => {
    const key = fc.constantFrom('"payload"', '"p\\u0061yload"', '"Payload"', '"__proto__"', '""');
    const text = fc.oneof(
      anyText.map((some) => JSON.stringify(some)),
      fc.constantFrom('"\\ud800"', '"\\uD83D\\uDE00"'),
    );
    // Put in its place later, so that a failure can be read.
    const long = text.map((some) => `"LONG${some.slice(1)}`);
    const value = fc.oneof(text, long, fc.json({ maxDepth: 2 }), fc.constant(`{"payload":"y"}`));
    const body = fc
      .array(fc.tuple(key, value), { minLength: 1, maxLength: 3 })
      .map((members) => `{${members.map(([name, content]) => `${name}: ${content}`).join(' ,')}}`);
    const damage = fc.tuple(fc.nat(), fc.constantFrom('', '"', '\\', '\n', '\\u12g4', '{', ',', '\ufeff'));
    fc.assert(
      fc.property(body, fc.option(damage, { freq: 2 }), (whole, damaged) => {
        const at = damaged === null ? 0 : damaged[0] % whole.length;
        const broken = damaged === null ? whole : whole.slice(0, at) + damaged[1] + whole.slice(at + 1);
        const [found, right] = [taken, meant].map((of) => of(broken.replaceAll('LONG', LONG)).replaceAll(LONG, 'LONG'));
        // Of two long strings one stands beside the payload, which is too much.
        if (broken.split('LONG').length < 3) expect(found).toBe(right);
        else expect(['refused', right]).toContain(found);
      }),
      { numRuns: 500 },
    );
  });

  it('passes through untouched when it holds nothing else, and is given on without a copy when it does', () => {
    const alone = Buffer.from(JSON.stringify({ payload: LONG }));
    expect(checkedBody(alone, MANY)).toBe(alone);
    const more = Buffer.from(JSON.stringify({ a: [1], payload: LONG, b: {} }));
    const sent = checkedBody(more, MANY);
    expect(sent.buffer).toBe(more.buffer);
    expect(sent.equals(alone)).toBe(true);
    expect(checkedBody(Buffer.from(JSON.stringify({ other: LONG, payload: 'x' })), MANY).toString()).toBe(
      '{"payload":"x"}',
    );
  });

  it('counts the payload in bytes of UTF-8, to the byte, however it is escaped', () => {
    for (const [written, size] of [
      ['x', 1],
      ['\\n', 1],
      ['\\u0000', 1],
      ['é', 2],
      ['\\u00e9', 2],
      ['\\u20ac', 3],
      ['\\ud800', 3],
      ['\\udc00', 3],
      ['😀', 4],
      ['\\ud83d\\ude00', 4],
    ] as const) {
      const count = PARSED_BYTES;
      const body = `{"payload":"${written.repeat(count)}"}`;
      expect(checkedBody(Buffer.from(body), count * size)).toHaveLength(Buffer.byteLength(body));
      expect(() => checkedBody(Buffer.from(body), count * size - 1)).toThrow('larger than the limit');
    }
  });

  it('is refused when more than 64 KiB stand beside the payload, without looking at all of it', () => {
    const costly = Buffer.from(`{"payload":"x","more":[${'{"9":0},'.repeat(4_000_000)}0]}`);
    const start = performance.now();
    expect(() => checkedBody(costly, MANY)).toThrow('more than 65536 bytes beside the payload');
    expect(performance.now() - start).toBeLessThan(200);
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
    const reservation = {
      add: (bytes: number) => {
        if (bytes > room) throw new ManagerOverloaded(3);
        room -= bytes;
      },
    };
    const refusal = { code: 'manager_overloaded' };
    await expect(readBody(requestOf(['ab', 'cd', 'e']), LIMIT, reservation)).rejects.toMatchObject(refusal);
    expect(room).toBe(1);
  });

  it('refuses compressed bodies and notices callers who leave', async () => {
    const gzip = readBody(requestOf([], { 'content-encoding': 'gzip' }), LIMIT, ENOUGH);
    await expect(gzip).rejects.toMatchObject({ code: 'unsupported_encoding' });
    const request = requestOf(['a', 'b']);
    const cut = expect(readBody(request, LIMIT, ENOUGH)).rejects.toMatchObject({ code: 'call_cancelled' });
    request.destroy();
    await cut;
    await expect(readBody(request, LIMIT, ENOUGH)).rejects.toMatchObject({ code: 'call_cancelled' });
  });
});
