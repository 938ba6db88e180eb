import { mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeFolder } from './make-folder.js';

describe('makeFolder', () => {
  let parent: string;
  beforeEach(async () => {
    parent = await mkdtemp(join(tmpdir(), 'make-folder-'));
  });
  afterEach(() => rm(parent, { recursive: true }));

  it('makes a folder with all above it, and does so again without harm', async () => {
    const path = join(parent, 'a', 'b', 'c');
    await makeFolder(path, 0o700);
    await makeFolder(path, 0o700);
    expect((await stat(path)).mode & 0o777).toBe(0o700);
  });

  it('makes one folder for many who ask at once', async () => {
    for (let round = 0; round < 50; round += 1) {
      const path = join(parent, `a${round}`, 'b');
      await Promise.all(Array.from({ length: 20 }, () => makeFolder(path, 0o755)));
      expect((await stat(path)).isDirectory()).toBe(true);
    }
  });

  it('takes a link to a folder for a folder, and a link to nowhere for none', async () => {
    await symlink(parent, join(parent, 'good'));
    await symlink(join(parent, 'nowhere'), join(parent, 'bad'));
    await makeFolder(join(parent, 'good'), 0o755);
    await expect(makeFolder(join(parent, 'bad'), 0o755)).rejects.toMatchObject({ code: 'EEXIST' });
  });

  it('refuses what is, or lies below, a file', async () => {
    await writeFile(join(parent, 'file'), '');
    await expect(makeFolder(join(parent, 'file'), 0o755)).rejects.toMatchObject({ code: 'EEXIST' });
    await expect(makeFolder(join(parent, 'file', 'a'), 0o755)).rejects.toMatchObject({ code: 'ENOTDIR' });
  });

  it.runIf(process.platform === 'linux')('comes to an end where the file system takes no folders', async () => {
    await expect(makeFolder('/proc/nowhere', 0o755)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(makeFolder('/proc/nowhere/below', 0o755)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
