import { createHash } from 'node:crypto';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { WorkerTokens } from './worker-tokens.js';

const key = Buffer.alloc(32, 7);

describe('The tokens of workers', () => {
  it('are found again from what is written down, by any manager of the installation', () => {
    const { credential, token, sha256 } = new WorkerTokens(key).issue();
    expect(new WorkerTokens(Buffer.from(key)).tokenFor(credential)).toBe(token);
    expect(sha256).toBe(createHash('sha256').update(token).digest('hex'));
    expect(token).toMatch(/^[\w-]{43}$/);
  });

  it('differ by replica and by installation', () => {
    const tokens = new WorkerTokens(key);
    const [one, other] = [tokens.issue(), tokens.issue()];
    expect(one.credential).not.toBe(other.credential);
    expect(one.token).not.toBe(other.token);
    expect(new WorkerTokens(Buffer.alloc(32, 8)).tokenFor(one.credential)).not.toBe(one.token);
  });

  it('of layers open one each, and no worker', () => {
    const tokens = new WorkerTokens(key);
    expect(tokens.forLayer('one')).toBe(new WorkerTokens(key).forLayer('one'));
    const others = [
      tokens.forLayer('two'),
      tokens.tokenFor('one'),
      new WorkerTokens(Buffer.alloc(32, 8)).forLayer('one'),
    ];
    expect(others).not.toContain(tokens.forLayer('one'));
  });

  it('are none where nothing was written down', () => {
    expect(new WorkerTokens(key).tokenFor(undefined)).toBeUndefined();
  });

  it('need a whole key, and never show it', () => {
    expect(() => new WorkerTokens(Buffer.alloc(31))).toThrow('32 bytes');
    const shown = inspect(new WorkerTokens(key), { showHidden: true }) + JSON.stringify(new WorkerTokens(key));
    expect(shown).not.toContain('07 07');
    expect(shown).not.toContain('7,7');
  });
});
