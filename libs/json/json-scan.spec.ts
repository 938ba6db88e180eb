import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  CLOSE_BRACE,
  jsonObjectIn,
  JsonStrings,
  lastByte,
  longestString,
  namesMember,
  parseBeside,
  PARSED_BYTES,
} from './json-scan.js';

/** A string of JSON with what may and may not stand in one. */
const pieces = fc.constantFrom(
  ...['a', 'xyz', 'é', '€', '😀', '\\n', '\\"', '\\\\', '\\u0041', '\\uD83D', '\\ude00', '\\u20AC'],
  ...['\n', '\0', '\\x', '\\u12', '\\', '\x1f', '\x7f', '"'],
);
const parses = (text: string): string | undefined => {
  try {
    return JSON.parse(text) as string;
  } catch {
    return undefined;
  }
};

describe('JsonStrings', () => {
  it('finds the end of a string where JSON.parse does, and how long its text is', () => {
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 40 }), fc.nat({ max: 5 }), (content, offset) => {
        const text = `${' '.repeat(offset)}"${content.join('')}"`;
        // The same bytes wherever they begin in memory.
        const bytes = Buffer.concat([Buffer.alloc(offset), Buffer.from(text)]).subarray(offset);
        const strings = new JsonStrings(bytes);
        const end = strings.endOf(offset + 1);
        const whole = parses(text);
        if (whole !== undefined) expect(end).toBe(bytes.length - 1);
        if (end < 0) expect(whole).toBeUndefined();
        else {
          const found = parses(bytes.toString('utf8', offset, end + 1));
          expect(found).toBeTypeOf('string');
          expect(strings.textBytes(offset + 1, end)).toBe(Buffer.byteLength(found as string));
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('finds no end of an incomplete string', () => {
    for (const text of ['', 'a', '\\', '\\u', '\\u004', '\\u004g"', '\\x"', 'a\n"', '\x00"']) {
      expect(new JsonStrings(Buffer.from(text)).endOf(0)).toBe(-1);
    }
  });
});

describe('longestString', () => {
  it('finds the longest of all strings, escaped or not', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.string({ minLength: 200, maxLength: 300 }), (value, long) => {
        const text = JSON.stringify({ value, long, more: value });
        const found = longestString(Buffer.from(text));
        fc.pre(typeof found !== 'string');
        const shown = Buffer.from(text).toString('utf8', found.start, found.end + 1);
        expect(Buffer.byteLength(shown)).toBeGreaterThanOrEqual(Buffer.byteLength(JSON.stringify(long)));
        expect(parses(shown)).toBeTypeOf('string');
      }),
    );
  });

  it('tells when more stands beside the longest string than is allowed', () => {
    const long = `"${'x'.repeat(PARSED_BYTES * 2)}"`;
    expect(longestString(Buffer.from(`${' '.repeat(PARSED_BYTES)}${long}`))).toMatchObject({ start: PARSED_BYTES });
    expect(longestString(Buffer.from(`${' '.repeat(PARSED_BYTES)}${long} `))).toBe('more_beside');
    expect(longestString(Buffer.from(`[${long},${long}]`))).toBe('more_beside');
    expect(longestString(Buffer.from('['.repeat(1_000_000)))).toBe('more_beside');
    expect(longestString(Buffer.from(`"a\n${long}`))).toBe('malformed');
    expect(longestString(Buffer.from(`{"a":${long.slice(0, -1)}`))).toBe('malformed');
  });
});

describe('jsonObjectIn', () => {
  it.each([
    ['{"a": 1}', { a: 1 }],
    ['', 'empty'],
    ['{', 'not JSON'],
    ['[]', 'not a JSON object'],
    ['null', 'not a JSON object'],
    [Buffer.from([0x22, 0xe9, 0x22]), 'not UTF-8'],
  ])('finds in %j: %j', (bytes, found) => {
    expect(jsonObjectIn(Buffer.from(bytes as string))).toEqual(found);
  });
});

describe('parseBeside', () => {
  const read = (text: string) => parseBeside(Buffer.from(text), ['a', 'b']);
  const long = (letter: string, bytes = PARSED_BYTES) => letter.repeat(bytes);

  it('takes long texts of the members that are named, escapes and all', () => {
    for (const value of [
      { a: long('x'), b: long('"', 2 * PARSED_BYTES) },
      { b: long('\u0001'), c: [{ a: 'ä' }], a: long('é') },
      { c: 'short', b: long('x'), a: 'y' },
      { a: 'short' },
    ]) {
      expect(read(JSON.stringify(value))).toEqual({ value });
    }
  });

  it('takes none of others', () => {
    for (const value of [
      { c: long('x') },
      { a: long('x'), c: long('x') },
      { a: long('x'), b: long('x'), c: long('x') },
      { [long('a')]: 'x' },
      { c: { a: long('x') } },
    ]) {
      expect(read(JSON.stringify(value))).toBe('more_beside');
    }
    expect(read(`{"a":"${long('x')}","a":1}`)).toBe('more_beside');
    expect(read(`${long(' ')} {"a":"x"}`)).toBe('more_beside');
  });

  it('leaves what is no JSON, or no object, to be refused', () => {
    expect(read(`{"a":"${long('x')}"`)).toBe('malformed');
    expect(read(`{"a":"${long('\n')}"}`)).toBe('malformed');
    expect(read('[1]')).toEqual({ value: [1] });
    expect(read(`["${long('x')}"]`)).toMatchObject({ value: [expect.any(String)] });
  });
});

describe('namesMember', () => {
  it.each([
    '{"result":1',
    ' {\n "result" : [1,',
    '{"a":{"b":[1,"result"]},"result":1}',
    '{"res\\u0075lt":1}',
    '{"a":"\\"","result":',
    '{"result"',
  ])('sees the member in %j', (text) => {
    expect(namesMember(Buffer.from(text), 'result')).toBe(true);
  });

  it.each([
    '',
    '[]',
    '["result"]',
    '{"a":"result"}',
    '{"a":["result"]}',
    '{"a":{"result":1}}',
    '{"result',
    '{"results":1}',
    '{}{"result":1}x',
    'x{"result":1}',
  ])('sees none in %j', (text) => {
    expect(namesMember(Buffer.from(text), 'result')).toBe(text.startsWith('{}{'));
  });

  it('looks no further than the first 64 KiB', () => {
    const before = (bytes: number) => `{"a":"${'x'.repeat(bytes)}","result":1}`;
    expect(namesMember(Buffer.from(before(PARSED_BYTES - 20)), 'result')).toBe(true);
    expect(namesMember(Buffer.from(before(PARSED_BYTES)), 'result')).toBe(false);
  });
});

describe('lastByte', () => {
  it('is the last byte before white space', () => {
    const marks = ['{}', '} \r\n\t', '}x', '', ' '].map((text) => lastByte(Buffer.from(text)));
    expect(marks).toEqual([CLOSE_BRACE, CLOSE_BRACE, 0x78, undefined, undefined]);
  });
});
