import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isFunctionId, newFunctionId } from './function-id.js';
import { parseFunctionName } from './function-name.js';

describe('parseFunctionName', () => {
  it.each(['handle', '_', '__init__', 'Größe', '関数', 'match', 'a1', 'x'.repeat(200)])('takes %s', (name) =>
    expect(parseFunctionName(name)).toEqual({ name }),
  );

  it.each([
    ['', 'empty'],
    ['module.handle', 'identifier'],
    ['1st', 'identifier'],
    ['a b', 'identifier'],
    ['handle()', 'identifier'],
    ['handle\n', 'identifier'],
    ['a\0', 'identifier'],
    ['😀', 'identifier'],
    ['class', 'keyword'],
    ['None', 'keyword'],
    ['ｃｌａｓｓ', 'keyword'],
    ['x'.repeat(201), 'longer'],
  ])('refuses %j and says why', (text, why) =>
    expect(parseFunctionName(text)).toEqual({ fault: expect.stringContaining(why) as string }),
  );

  it('names the function as Python looks it up', () => {
    expect(parseFunctionName('ﬁnd')).toEqual({ name: 'find' });
  });

  it('answers a name that names itself, or one line of why not, for any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const parsed = parseFunctionName(text);
        if ('name' in parsed) expect(parseFunctionName(parsed.name)).toEqual(parsed);
        else expect(parsed.fault).not.toMatch(/[\n\0]/);
      }),
    );
  });
});

describe('newFunctionId', () => {
  it('makes ids of the one form, never the same, with every letter anywhere', () => {
    const ids = Array.from({ length: 2_000 }, newFunctionId);
    expect(ids.every((id) => isFunctionId(id))).toBe(true);
    expect(new Set(ids).size).toBe(ids.length);
    for (let place = 0; place < 16; place += 1) expect(new Set(ids.map((id) => id[place])).size).toBe(32);
  });

  it.each([
    '',
    'a'.repeat(15),
    'a'.repeat(17),
    'A'.repeat(16),
    '1'.repeat(16),
    `${'a'.repeat(16)}\n`,
    '../aaaaaaaaaaaaa',
  ])('takes %j for no id', (text) => expect(isFunctionId(text)).toBe(false));
});
