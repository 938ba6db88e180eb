import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';

/** What may be given as a file, whose path is in the variable of this name and `_FILE`. */
const SECRETS = [
  'API_KEYS',
  'DATABASE_URL',
  'POSTGRES_PASSWORD',
  'HARBOR_PASS',
  'SECRETS_KEYS',
  'PYTHON_INDEX_PASSWORD',
  'CALLBACKS_SECRETS',
] as const;

const MOST_BYTES = 64 * 1024;

export interface ReadSecrets {
  /** The variables with each secret in the place of its file's path. */
  readonly variables: NodeJS.ProcessEnv;
  readonly faults: readonly string[];
  /** The secrets whose files are at fault. */
  readonly faulty: readonly string[];
}

/** The line break that editors and `echo` put at the end is no part of a secret. */
export function readSecretFiles(given: NodeJS.ProcessEnv): ReadSecrets {
  const variables = { ...given };
  const faults: string[] = [];
  const faulty: string[] = [];
  for (const name of SECRETS) {
    const path = variables[`${name}_FILE`];
    delete variables[`${name}_FILE`];
    if (path === undefined) continue;
    try {
      if (given[name] !== undefined) throw new Error(`contradicts ${name}: remove one`);
      variables[name] = contentOf(path);
    } catch (error) {
      faults.push(`${name}_FILE ${(error as Error).message}`);
      faulty.push(name);
    }
  }
  return { variables, faults, faulty };
}

function contentOf(path: string): string {
  const bytes = read(path);
  if (bytes.length > MOST_BYTES) throw new Error(`names a file of more than ${MOST_BYTES} bytes: ${path}`);
  const content = bytes.toString('utf8').replace(/\r?\n$/, '');
  if (content.trim() === '') throw new Error(`names an empty file: ${path}`);
  if (content.includes('\0')) throw new Error(`names a file that is no text: ${path}`);
  return content;
}

function read(path: string): Buffer {
  let file: number | undefined;
  try {
    // Not blocking, since a pipe that nobody writes to would hold up the boot for ever.
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if (!fstatSync(file).isFile()) throw new Error('it is no ordinary file');
    const bytes = Buffer.alloc(MOST_BYTES + 1);
    return bytes.subarray(0, readSync(file, bytes));
  } catch (error) {
    throw new Error(`names a file that can't be read: ${reasonOf(error, path)}`, { cause: error });
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

function reasonOf(error: unknown, path: string): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT') return `${path} does not exist`;
  if (code === 'EACCES') return `${path} may not be read by this user`;
  return `${path}, ${message}`;
}
