/** A key that secrets are encrypted with. */
export interface SecretsKey {
  /** Stands beside what it has encrypted; no secret. */
  readonly id: string;
  /** 32 bytes. */
  readonly key: Buffer;
}

export const SECRETS_KEY_BYTES = 32;
const ID = /^[A-Za-z0-9._-]{1,32}$/;
/** Both alphabets of RFC 4648, with or without padding. */
const BASE64 = /^[A-Za-z0-9+/_-]+={0,2}$/;

/**
 * Reads entries `id:key` parted by commas or line ends, each key in base64. Faults are appended to `faults`; they name
 * an entry by its number and id, and show nothing of a key.
 */
export function parseSecretsKeys(text: string, faults: string[]): readonly SecretsKey[] {
  const entries = text
    .split(/[,\r\n]/)
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');
  const keys: SecretsKey[] = [];
  for (const [index, entry] of entries.entries()) {
    const read = parseEntry(entry);
    const fault = typeof read === 'string' ? read : clash(read, keys);
    if (fault !== undefined) faults.push(`SECRETS_KEYS entry ${index + 1}: ${fault}`);
    else if (typeof read !== 'string') keys.push(read);
  }
  return keys;
}

/** The key, or what is wrong with the entry. */
function parseEntry(entry: string): SecretsKey | string {
  const colon = entry.indexOf(':');
  if (colon < 0) return 'it must be id:key, as in "2026-11:$(openssl rand -base64 32)"';
  const [id, encoded] = [entry.slice(0, colon), entry.slice(colon + 1)];
  if (!ID.test(id)) return 'the id may hold letters, digits, ".", "_" and "-", at most 32';
  if (!BASE64.test(encoded)) return `the key of "${id}" is not base64`;
  const key = Buffer.from(encoded, 'base64');
  if (key.length === SECRETS_KEY_BYTES) return { id, key };
  return `the key of "${id}" has ${key.length} bytes, and must have ${SECRETS_KEY_BYTES}: openssl rand -base64 32`;
}

function clash({ id, key }: SecretsKey, others: readonly SecretsKey[]): string | undefined {
  if (others.some((other) => other.id === id)) return `the id "${id}" is taken by another entry`;
  const same = others.find((other) => other.key.equals(key));
  return same === undefined ? undefined : `the key of "${id}" is the same as that of "${same.id}"`;
}
