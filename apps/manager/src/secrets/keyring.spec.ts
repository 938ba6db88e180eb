import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { SecretsNotConfigured, SecretUnreadable } from './errors.js';
import { Keyring } from './keyring.js';

const keyOf = (id: string) => ({ id, key: randomBytes(32) });
const [OLD, NEW] = [keyOf('old'), keyOf('new')];
const OF = { name: 'db-password', version: 'ea4c2a9b-6c0d-4d57-9d3c-2a8f6f2f4a10' };

describe('a keyring', () => {
  it('opens what it has sealed, whatever it is, and never seals it the same way twice', () => {
    const keyring = new Keyring([NEW]);
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), (value) => {
        const [one, other] = [keyring.seal(value, OF), keyring.seal(value, OF)];
        expect(keyring.open(one, OF)).toBe(value);
        expect(one.nonce.equals(other.nonce)).toBe(false);
        expect(one.ciphertext.equals(other.ciphertext)).toBe(false);
      }),
    );
  });

  it('seals with its first key, and opens with each', () => {
    const former = new Keyring([OLD]).seal('value', OF);
    const keyring = new Keyring([NEW, OLD]);
    expect(keyring.open(former, OF)).toBe('value');
    expect(keyring.seal('value', OF).keyId).toBe('new');
  });

  it('opens nothing that was moved to another row, given another version, or changed', () => {
    const keyring = new Keyring([NEW]);
    const sealed = keyring.seal('value', OF);
    const changed = Buffer.from(sealed.ciphertext);
    changed[0] = changed[0]! ^ 1;
    for (const open of [
      () => keyring.open(sealed, { ...OF, name: 'other' }),
      () => keyring.open(sealed, { ...OF, version: 'other' }),
      () => keyring.open({ ...sealed, ciphertext: changed }, OF),
      () => keyring.open({ ...sealed, ciphertext: sealed.ciphertext.subarray(0, 8) }, OF),
      () => keyring.open({ ...sealed, nonce: randomBytes(12) }, OF),
    ]) {
      expect(open).toThrow(SecretUnreadable);
    }
  });

  it('names the key that is missing, and the one that is another by now', () => {
    const sealed = new Keyring([OLD]).seal('value', OF);
    expect(() => new Keyring([NEW]).open(sealed, OF)).toThrow('its key "old" is not among SECRETS_KEYS');
    expect(() => new Keyring([keyOf('old')]).open(sealed, OF)).toThrow('the key "old" does not open it');
  });

  it('seals nothing without a key', () => {
    expect(() => new Keyring([]).seal('value', OF)).toThrow(SecretsNotConfigured);
  });

  it('has another fingerprint with other keys, and another order of them', () => {
    const fingerprints = [[NEW], [OLD], [NEW, OLD], [OLD, NEW], [keyOf('new')]].map(
      (keys) => new Keyring(keys).fingerprint,
    );
    expect(new Set(fingerprints).size).toBe(fingerprints.length);
    expect(new Keyring([NEW]).fingerprint).toBe(fingerprints[0]);
  });
});

describe('a manager’s own key', () => {
  let folder: string;
  const warn = vi.fn();
  const logger = { warn };
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'faas-keyring-'));
    warn.mockClear();
  });
  afterEach(() => rm(folder, { recursive: true }));
  const config = (keys: readonly (typeof NEW)[], mayMakeKey: boolean) => ({
    keys,
    keyFile: join(folder, 'secrets-key'),
    mayMakeKey,
  });

  it('is made once, for its user alone, and comes with a warning', async () => {
    const keyring = await Keyring.open(config([], true), logger);
    expect(warn).toHaveBeenCalledOnce();
    expect((await stat(join(folder, 'secrets-key'))).mode & 0o777).toBe(0o600);
    const sealed = keyring.seal('value', OF);
    expect((await Keyring.open(config([], true), logger)).open(sealed, OF)).toBe('value');
    const text = (await readFile(join(folder, 'secrets-key'), 'utf8')).trim();
    expect(JSON.stringify(warn.mock.calls)).not.toContain(text);
  });

  it('is made nowhere else, and opens what it has sealed when others are configured', async () => {
    expect((await Keyring.open(config([], false), logger)).primaryId).toBeUndefined();
    const sealed = (await Keyring.open(config([], true), logger)).seal('value', OF);
    const later = await Keyring.open(config([NEW], false), logger);
    expect(later.primaryId).toBe('new');
    expect(later.open(sealed, OF)).toBe('value');
    // Also where that very key is configured, by whatever id.
    const key = Buffer.from((await readFile(join(folder, 'secrets-key'), 'utf8')).trim(), 'base64url');
    expect((await Keyring.open(config([{ id: 'main', key }], false), logger)).open(sealed, OF)).toBe('value');
    expect((await Keyring.open(config([], false), logger)).primaryId).toBeUndefined();
  });

  it('is not replaced where the file holds something else', async () => {
    await writeFile(join(folder, 'secrets-key'), 'something else');
    await expect(Keyring.open(config([], true), logger)).rejects.toThrow('put back the one');
  });
});
