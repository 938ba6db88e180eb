import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { redacted, redactedJson } from './redaction.js';

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
  ])('takes from %s what nobody is to read', (text, shown) => {
    expect(redacted(text, NAMES)).toEqual({ text: shown, isChanged: true });
  });

  it.each(['', 'Ada', '{"name": "Ada"}', '[1, 2]', '{"a": nothing'])('leaves %j as it is', (text) => {
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
});
