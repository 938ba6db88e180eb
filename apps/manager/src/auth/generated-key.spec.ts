import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { generatedKey, UnusableKeyFile } from './generated-key.js';

describe('generatedKey', () => {
  let folder: string;
  let path: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'faas-key-'));
    path = join(folder, 'data', 'api-key');
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('makes a key that only this user can read, and gives the same from then on', async () => {
    const key = await generatedKey(path);
    expect(key).toMatch(/^[\w-]{43}$/);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await generatedKey(path)).toBe(key);
    expect(await readFile(path, 'utf8')).toBe(`${key}\n`);
  });

  it('gives simultaneous callers the same key, and leaves no other file', async () => {
    const keys = await Promise.all(Array.from({ length: 8 }, () => generatedKey(path)));
    expect(new Set(keys).size).toBe(1);
    expect(await readdir(join(folder, 'data'))).toEqual(['api-key']);
  });

  it.each(['', 'short\n', `${'x'.repeat(43)} and more`])(
    'takes no %j for a key, and shows none of it',
    async (text) => {
      const key = await generatedKey(path);
      await writeFile(path, text);
      const fault = await generatedKey(path).catch((error: unknown) => error as Error);
      expect(fault).toBeInstanceOf(UnusableKeyFile);
      expect((fault as Error).message).toContain(path);
      expect((fault as Error).message).not.toContain(key);
    },
  );
});
