import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { masked, redacted, redactedJson } from './redaction.js';

const NAMES = ['password', 'api_key'];

describe('redaction', () => {
  it.each([
    ['{"password":"x","a":1}', '{"password":"[redacted]","a":1}'],
    ['{"a":[{"b":{"Pass-Word":{"deep":true}}}]}', '{"a":[{"b":{"Pass-Word":"[redacted]"}}]}'],
    ['{"apiKey":1,"API-KEY":2,"api_keys":3}', '{"apiKey":"[redacted]","API-KEY":"[redacted]","api_keys":3}'],
    ['{"p\\u0061ssword":"x"}', '{"password":"[redacted]"}'],
    ['{"body":"{\\"password\\":\\"x\\",\\"a\\":1}"}', '{"body":"{\\"password\\":\\"[redacted]\\",\\"a\\":1}"}'],
    ['{"url":"/?password=x","a":"b"}', '{"url":"[redacted]","a":"b"}'],
    ['user=ada&password=x', '[redacted]'],
    ['"password"', '[redacted]'],
    ['"{\\"p\\\\u0061ssword\\":1}"', '[redacted]'],
    ['[["a","b"],["Password","x"]]', '[["a","b"],"[redacted]"]'],
    ['[{"name":"password","value":"x"},{"name":"a"}]', '["[redacted]",{"name":"a"}]'],
    ['{"password":"x","password":"[redacted]"}', '{"password":"[redacted]"}'],
    ['{"p\\u0061ssword": "cut o', '[redacted]'],
  ])('takes from %s what nobody is to read', (text, shown) => {
    expect(redacted(text, NAMES)).toEqual({ text: shown, isChanged: true });
  });

  it.each([
    '',
    'Ada',
    '{"name": "Ada"}',
    '[1, 2]',
    '{"a": nothing',
    'C:\\users\\ada',
    '{ "passwords": 1.0, "big": 12345678901234567890 }',
    '{"path": "C:\\\\users", "told": "{ \\"my_passwords\\": 1.0 }"}',
  ])('leaves %j as it is', (text) => {
    expect(redacted(text, NAMES)).toEqual({ text, isChanged: false });
  });

  it('keeps a result JSON', () => {
    expect(redactedJson('{"result":{"password":"x"}}', NAMES)).toBe('{"result":{"password":"[redacted]"}}');
    expect(redactedJson('{"result":"password is x"}', NAMES)).toBe('{"result":"[redacted]"}');
    expect(redactedJson('{"result": [1]}', NAMES)).toBe('{"result": [1]}');
  });

  it('leaves no value of a named member, wherever it is', () => {
    const secret = 'the-hidden-value';
    const hidden = fc.constantFrom('password', 'PASSWORD', 'api-key').map((name) => ({ [name]: secret }));
    const nested = fc.letrec<{ tree: unknown }>((tie) => ({
      tree: fc.oneof(
        { maxDepth: 4 },
        hidden,
        fc.array(tie('tree'), { maxLength: 3 }),
        fc.dictionary(fc.string(), tie('tree'), { maxKeys: 3 }),
        tie('tree').map((value) => JSON.stringify(value)),
      ),
    })).tree;
    fc.assert(
      fc.property(nested, (value) => {
        expect(redacted(JSON.stringify(value), NAMES).text).not.toContain(secret);
      }),
    );
  });

  it('leaves none however its name is escaped, and however deep', () => {
    const escaped = fc
      .array(fc.boolean(), { minLength: 8, maxLength: 8 })
      .map((which) =>
        [...'password']
          .map((letter, index) => (which[index] ? `\\u00${letter.charCodeAt(0).toString(16)}` : letter))
          .join(''),
      );
    fc.assert(
      fc.property(escaped, fc.integer({ min: 0, max: 4 }), fc.boolean(), (name, depth, isCut) => {
        let text = `{"${name}":"the-hidden-value"`;
        if (!isCut) text += '}';
        for (let level = 0; level < depth; level += 1) text = JSON.stringify(level % 2 === 0 ? text : { text });
        expect(redacted(text, NAMES).text).not.toContain('the-hidden-value');
      }),
    );
  });

  it.each([
    ['no user for password=x y&a=b', 'no user for password=[redacted] y&a=b'],
    [`KeyError: {'api-key': 'x y', "a": 1}`, `KeyError: {'api-key': [redacted], "a": 1}`],
    ['got {"password": "x \\" y", "a": 1}', 'got {"password": [redacted], "a": 1}'],
    ['got {"password": "cut o', 'got {"password": [redacted]'],
    ['Password: Bearer xyz', 'Password: [redacted]'],
    ["KeyError: 'password'", "KeyError: 'password'"],
  ])('masks in the sentence %s what follows a name', (sentence, shown) => {
    expect(masked(sentence, NAMES)).toBe(shown);
    expect(masked(sentence, ['_'])).toBe(sentence);
  });

  it('takes no time for escapes of escapes', () => {
    const text = `\\u005c${'u005c'.repeat(20_000)}`;
    expect(redacted(text, NAMES).text).toBe(text);
  });
});
