/** What a key is for. `admin` is for everything; each other scope is for its own routes alone. */
export const SCOPES = ['admin', 'deploy', 'invoke', 'metrics'] as const;
export type Scope = (typeof SCOPES)[number];

/** One key, with the name that logs know it by. */
export interface ApiKey {
  readonly name: string;
  readonly scope: Scope;
  readonly secret: string;
}

const SHORTEST = 16;
const NAME = /^[A-Za-z0-9._-]{1,32}$/;

/**
 * Reads entries parted by commas or line ends: a bare key, which may do everything, or `name:scope:key`. Faults are
 * appended to `faults`; they say which entry is at fault by its number and never show a part that may be of a key.
 */
export function parseApiKeys(text: string, faults: string[]): readonly ApiKey[] {
  const entries = text
    .split(/[,\r\n]/)
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');
  const keys: ApiKey[] = [];
  for (const [index, entry] of entries.entries()) {
    const number = index + 1;
    const read = parseEntry(entry, entries.length === 1 ? 'default' : `key-${number}`);
    const fault = typeof read === 'string' ? read : (secretFault(read.secret) ?? clash(read, keys));
    if (fault !== undefined) faults.push(`API_KEYS entry ${number}: ${fault}`);
    else if (typeof read !== 'string') keys.push(read);
  }
  return keys;
}

/** The key, or what is wrong with the entry. */
function parseEntry(entry: string, nameOfBare: string): ApiKey | string {
  const [name, scope, ...rest] = entry.split(':') as [string, ...string[]];
  if (scope === undefined) return { name: nameOfBare, scope: 'admin', secret: entry };
  if (rest.length === 0) return 'it must be a key without colons, or name:scope:key';
  if (!isScope(scope)) return `the scope must be ${SCOPES.join(', ')}, as in name:scope:key`;
  if (!NAME.test(name)) return 'the name may hold letters, digits, ".", "_" and "-", at most 32';
  return { name, scope, secret: rest.join(':') };
}

function secretFault(secret: string): string | undefined {
  if (secret.length < SHORTEST) return `the key must have at least ${SHORTEST} characters`;
  if (!/^[\x21-\x7e]+$/.test(secret)) return 'the key may hold visible ASCII characters only';
  return undefined;
}

function clash({ name, secret }: ApiKey, others: readonly ApiKey[]): string | undefined {
  if (others.some((other) => other.name === name)) return `the name "${name}" is taken by another entry`;
  const same = others.find((other) => other.secret === secret);
  return same === undefined ? undefined : `the key is the same as that of "${same.name}"`;
}

function isScope(word: string): word is Scope {
  return (SCOPES as readonly string[]).includes(word);
}
