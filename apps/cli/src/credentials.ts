import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { Failure } from './failure.js';

export interface Credentials {
  readonly url: string;
  readonly key?: string;
}

export function credentialsPath(env: NodeJS.ProcessEnv = process.env): string {
  const folder = env['XDG_CONFIG_HOME'];
  return join(folder === undefined || folder === '' ? join(homedir(), '.config') : folder, 'faas', 'config.json');
}

export function readCredentials(path = credentialsPath()): Credentials | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw new Failure('usage', `${path} can't be read: ${(error as Error).message}`);
  }
  try {
    const { url, key } = JSON.parse(text) as { url?: unknown; key?: unknown };
    if (typeof url === 'string' && (key === undefined || typeof key === 'string')) {
      return key === undefined ? { url } : { url, key };
    }
  } catch {
    // Said below.
  }
  throw new Failure('usage', `${path} is damaged.`, undefined, 'faas login writes it anew.');
}

/** For the user's eyes only, from its first byte on; a reader sees the former file or the new one. */
export function writeCredentials(credentials: Credentials, path = credentialsPath()): void {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const aside = `${path}.${process.pid}`;
    writeFileSync(aside, `${JSON.stringify(credentials, null, 2)}\n`, { mode: 0o600, flag: 'wx' });
    renameSync(aside, path);
  } catch (error) {
    throw new Failure('usage', `${path} can't be written: ${(error as Error).message}`);
  }
}
