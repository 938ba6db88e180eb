import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import type { AppError } from '#libs/errors/app-error.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryExhausted } from '../memory/memory-budget.js';
import { checkBody, parseCall, readBody } from './call-body.js';
import { PARSED_BYTES } from '#libs/json/json-scan.js';

const LIMIT = 1_000;
const anyText = fc.string({ unit: 'binary' });

describe('checkBody', () => {
  it('takes a body that holds the payload alone', () => {
    fc.assert(
      fc.property(anyText, fc.constantFrom('', ' ', '\n\t'), (payload, space) => {
        checkBody(Buffer.from(`{${space}"payload"${space}:${space}${JSON.stringify(payload)}${space}}`), LIMIT);
      }),
    );
  });

  it('refuses whatever else a body holds, by its name', () => {
    fc.assert(
      fc.property(
        anyText,
        fc.dictionary(fc.string({ maxLength: 60 }), fc.jsonValue(), { minKeys: 1 }),
        (payload, others) => {
          const given = { ...others, payload };
          fc.pre(Object.keys(given).length > 1);
          const field = Object.keys(given).find((name) => name !== 'payload');
          const refused = expect.objectContaining({ code: 'invalid_payload', extras: { field } }) as Error;
          expect(() => checkBody(Buffer.from(JSON.stringify(given)), LIMIT)).toThrow(refused);
        },
      ),
    );
  });

  it('says which members there are in place of one that there isn’t', () => {
    const body = Buffer.from('{"payload":"","delay":1}');
    expect(() => checkBody(body, LIMIT)).toThrow('There is no member "delay". Known: payload. Send ');
    expect(() => parseCall(body, LIMIT, ['delay_ms', 'priority'])).toThrow('Known: payload, delay_ms, priority. Send ');
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
    expect(() => checkBody(Buffer.from(body), LIMIT)).toThrow(told);
  });

  it('refuses what is not UTF-8', () => {
    expect(() => checkBody(Buffer.from('7b227061796c6f6164223a22ff227d', 'hex'), LIMIT)).toThrow('not UTF-8');
  });

  it.each(['x', 'é', '€', '😀'])('counts the payload in bytes of UTF-8, to the byte: %s', (character) => {
    const size = Buffer.byteLength(character);
    const body = Buffer.from(JSON.stringify({ payload: character.repeat(30) }));
    checkBody(body, 30 * size);
    expect(() => checkBody(body, 30 * size - 1)).toThrow('larger than the limit');
  });

  it('takes a payload at the limit however it is escaped', () => {
    const escaped = `{"payload":"${'\\u0000'.repeat(LIMIT)}"}`;
    expect(() => checkBody(Buffer.from(escaped), LIMIT)).not.toThrow();
  });
});

describe('checkBody of a large body', () => {
  const MANY = 1_000_000;
  const LONG = 'x'.repeat(PARSED_BYTES);
  /** Whether JSON.parse, which no large body is given otherwise, finds a payload and nothing else. */
  const isRight = (body: string): boolean => {
    try {
      // Half of a surrogate pair can't be sent.
      const parsed = JSON.parse(body.toWellFormed()) as { payload?: unknown };
      return typeof parsed.payload === 'string' && Object.keys(parsed).length === 1;
    } catch {
      return false;
    }
  };
  const isTaken = (body: string): boolean => {
    try {
      checkBody(Buffer.from(body), MANY);
      return true;
    } catch (error) {
      expect(error).toMatchObject({ code: 'invalid_payload' });
      return false;
    }
  };

  it('takes what JSON.parse takes, whatever stands beside the payload and however it is broken', () => {
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
        const [found, right] = [isTaken, isRight].map((of) => of(broken.replaceAll('LONG', LONG)));
        // Of two long strings one stands beside the payload, which is too much.
        if (broken.split('LONG').length < 3) expect(found).toBe(right);
        else expect([false, right]).toContain(found);
      }),
      { numRuns: 500 },
    );
  });

  it('refuses other members by their names, however long', () => {
    const fieldOf = (body: object) => {
      try {
        checkBody(Buffer.from(JSON.stringify(body)), MANY);
        return undefined;
      } catch (error) {
        return (error as AppError).extras.field;
      }
    };
    expect(fieldOf({ payload: LONG })).toBeUndefined();
    expect(fieldOf({ a: [1], payload: LONG })).toBe('a');
    expect(fieldOf({ other: LONG, payload: 'x' })).toBe('other');
    expect(fieldOf({ [LONG]: 1, payload: 'x' })).toBe('of a very long name');
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
      checkBody(Buffer.from(body), count * size);
      expect(() => checkBody(Buffer.from(body), count * size - 1)).toThrow('larger than the limit');
    }
  });

  it('is refused when more than 64 KiB stand beside the payload, without looking at all of it', () => {
    const costly = Buffer.from(`{"payload":"x","more":[${'{"9":0},'.repeat(4_000_000)}0]}`);
    const start = performance.now();
    expect(() => checkBody(costly, MANY)).toThrow('more than 65536 bytes beside the payload');
    expect(performance.now() - start).toBeLessThan(200);
  });
});

describe('readBody', () => {
  const requestOf = (chunks: readonly (string | Buffer)[], headers: Record<string, string> = {}) =>
    Object.assign(Readable.from(chunks.map((chunk) => Buffer.from(chunk))), { headers }) as unknown as IncomingMessage;
  const most = LIMIT * 6 + 64 * 1024;
  const ENOUGH = { add: () => undefined };

  it('joins pieces that arrive', async () => {
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
        if (bytes > room) throw new MemoryExhausted('manager_overloaded', 3);
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
