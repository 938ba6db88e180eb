import { describe, expect, it } from 'vitest';
import { filesOf, secretsFault, secretsIn, variablesOf } from './secret-targets.js';

const SECRETS = { TOKEN: 'token', 'tls.pem': { file: 'cert' }, copy: { file: 'token' } };

describe('secrets of a function', () => {
  it('are variables and files, and each secret is named once', () => {
    expect(secretsFault(SECRETS)).toBeUndefined();
    expect(variablesOf(SECRETS)).toEqual([{ target: 'TOKEN', secret: 'token' }]);
    expect(filesOf(SECRETS)).toEqual([
      { target: 'tls.pem', secret: 'cert' },
      { target: 'copy', secret: 'token' },
    ]);
    expect(secretsIn(SECRETS)).toEqual(['token', 'cert']);
    expect(secretsFault({})).toBeUndefined();
  });

  it.each([
    [[], 'must be a JSON object'],
    ['text', 'must be a JSON object'],
    [{ 'tls.pem': 'cert' }, 'must have letters, digits and underscores'],
    [{ LD_PRELOAD: 'x' }, 'reserved'],
    [{ FAAS_EVENT_LOOP: 'x' }, 'reserved'],
    [{ A: { file: 'x', mode: 1 } }, 'must have the name of a secret'],
    [{ A: null }, 'must have the name of a secret'],
    [{ A: '' }, 'must name a secret'],
    [{ A: 'x'.repeat(64) }, 'must name a secret'],
    [{ '.': { file: 'x' } }, 'is no file’s'],
    [{ '..': { file: 'x' } }, 'is no file’s'],
    [{ '..data': { file: 'x' } }, 'is no file’s'],
    [{ 'a/b': { file: 'x' } }, 'is no file’s'],
    [{ ['x'.repeat(129)]: { file: 'x' } }, 'is no file’s'],
    [{ ['X'.repeat(129)]: 'x' }, 'at most 128'],
  ])('are refused with the reason: %j', (secrets, reason) => {
    expect(secretsFault(secrets)).toContain(reason);
  });
});
