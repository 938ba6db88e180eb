import type { SecretsConfig } from '#libs/config/config.js';
import type { SecretsKey } from '#libs/config/secrets-keys.js';
import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import { access } from 'node:fs/promises';
import type { Logger } from 'pino';
import { generatedKey } from '../auth/generated-key.js';
import { SecretsNotConfigured, SecretUnreadable } from './errors.js';

const CIPHER = 'aes-256-gcm';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** A value as the database has it. */
export interface Sealed {
  readonly keyId: string;
  readonly nonce: Buffer;
  /** With the tag at its end. */
  readonly ciphertext: Buffer;
}

/** What a value belongs to: authenticated with it, so that no row opens with another one's content. */
export interface Belonging {
  readonly name: string;
  readonly version: string;
}

/** The keys of secrets. The first one encrypts, all of them decrypt. */
export class Keyring {
  readonly #keys: ReadonlyMap<string, Buffer>;
  /** What encrypts; undefined: nothing can be. */
  readonly primaryId: string | undefined;
  /** Tells managers with the same keys from others, and nothing of the keys. */
  readonly fingerprint: string;

  /** @param encrypts false: they are there only to read what was encrypted elsewhere */
  constructor(keys: readonly SecretsKey[], encrypts = true) {
    this.#keys = new Map(keys.map(({ id, key }) => [id, key]));
    this.primaryId = encrypts ? keys[0]?.id : undefined;
    const digest = createHash('sha256').update(`${this.primaryId}\n`);
    for (const { id, key } of keys) digest.update(`${id} ${createHash('sha256').update(key).digest('hex')}\n`);
    this.fingerprint = digest.digest('hex');
  }

  /** Those that are configured, and the one that a manager has made for itself. */
  static async open({ keys, keyFile, mayMakeKey }: SecretsConfig, logger: Pick<Logger, 'warn'>): Promise<Keyring> {
    const own = await ownKey(keyFile, mayMakeKey);
    if (mayMakeKey) {
      logger.warn(
        { file: keyFile },
        'secrets are encrypted with a key that this manager has made, in a file beside its database: that protects copies of the database, not the disk. Set SECRETS_KEYS to keep the key elsewhere',
      );
    }
    // Also where the same key is configured by another id: what it has encrypted bears this one.
    const others = own === undefined || keys.some(({ id }) => id === own.id) ? [] : [own];
    return new Keyring([...keys, ...others], keys.length > 0 || mayMakeKey);
  }

  /** @throws {@link SecretsNotConfigured} */
  seal(value: string, to: Belonging): Sealed {
    const keyId = this.primaryId;
    const key = keyId === undefined ? undefined : this.#keys.get(keyId);
    if (keyId === undefined || key === undefined) throw new SecretsNotConfigured();
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES }).setAAD(boundTo(to));
    const ciphertext = Buffer.concat([cipher.update(value, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    return { keyId, nonce, ciphertext };
  }

  /** @throws {@link SecretUnreadable} that says which key is missing or wrong */
  open({ keyId, nonce, ciphertext }: Sealed, of: Belonging): string {
    const key = this.#keys.get(keyId);
    if (key === undefined) {
      throw new SecretUnreadable(of.name, `its key "${keyId}" is not among SECRETS_KEYS of this manager`);
    }
    try {
      const end = ciphertext.length - TAG_BYTES;
      const decipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES })
        .setAAD(boundTo(of))
        .setAuthTag(ciphertext.subarray(end));
      return Buffer.concat([decipher.update(ciphertext.subarray(0, end)), decipher.final()]).toString('utf8');
    } catch {
      throw new SecretUnreadable(
        of.name,
        `the key "${keyId}" does not open it, since it is another one than it was encrypted with, or the row was changed`,
      );
    }
  }
}

/**
 * The key in the file, made if there is none where that may be. One that was made stays readable when others are
 * configured later, so that what it has encrypted can be encrypted anew.
 */
export async function ownKey(keyFile: string, mayMake: boolean): Promise<SecretsKey | undefined> {
  const isThere = await access(keyFile).then(
    () => true,
    () => false,
  );
  if (!isThere && !mayMake) return undefined;
  const advice = 'put back the one that secrets are encrypted with, or set SECRETS_KEYS and remove it';
  const key = Buffer.from(await generatedKey(keyFile, advice), 'base64url');
  return { id: `own-${createHash('sha256').update(key).digest('hex').slice(0, 8)}`, key };
}

function boundTo({ name, version }: Belonging): Buffer {
  return Buffer.from(`service-faas secret\n${name}\n${version}`);
}
