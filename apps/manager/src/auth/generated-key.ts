import { makeFolder } from '#libs/files/make-folder.js';
import { randomBytes } from 'node:crypto';
import { link, open, readFile, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

const BYTES = 32;
const KEY = /^[\w-]{43}\n?$/;

/** The file exists, and it holds no key that a manager made. */
export class UnusableKeyFile extends Error {
  constructor(path: string, advice: string) {
    super(`${path} holds no key that a manager made: ${advice}.`);
    this.name = 'UnusableKeyFile';
  }
}

/**
 * The key in the file, which is made if it doesn't exist. Any number of processes may call this at once and get the
 * same key. Only this user can read the file. Throws {@link UnusableKeyFile}.
 */
export async function generatedKey(
  path: string,
  advice = 'remove it to have a new one made, or set API_KEYS',
): Promise<string> {
  const text = (await readIfThere(path)) ?? (await make(path));
  if (!KEY.test(text)) throw new UnusableKeyFile(path, advice);
  return text.trim();
}

async function make(path: string): Promise<string> {
  await makeFolder(dirname(path), 0o755);
  const draft = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`;
  try {
    const file = await open(draft, 'wx', 0o600);
    try {
      await file.writeFile(`${randomBytes(BYTES).toString('base64url')}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    // Complete or not at all, and never in place of a file that another process has made meanwhile.
    await link(draft, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(draft, { force: true });
  }
  return readFile(path, 'utf8');
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
