import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import {
  chmod,
  chown,
  lchown,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { removeLeftovers, removeTrees } from './clean-up.js';
import { workerUids } from './users.js';

describe('removeTrees', () => {
  let place: string;
  beforeEach(async () => {
    place = await mkdtemp(join(tmpdir(), 'trees-'));
  });
  afterEach(() => rm(place, { recursive: true, force: true }));

  it('removes all that is named, follows no link, and minds nothing that is gone already', async () => {
    const [tree, file, kept] = [join(place, 'tree'), join(place, '-file'), join(place, 'kept')];
    await mkdir(join(tree, 'a', 'b'), { recursive: true });
    await mkdir(kept);
    await writeFile(join(kept, 'one'), 'kept');
    await writeFile(file, '');
    await symlink(kept, join(tree, 'a', 'link'));
    await symlink(kept, join(place, 'link'));
    await removeTrees([tree, file, join(place, 'link'), join(place, 'gone')]);
    expect(await readdir(place)).toEqual(['kept']);
    expect(await readFile(join(kept, 'one'), 'utf8')).toBe('kept');
  });
});

const range = workerUids();
const UID = range === undefined ? 0 : range.first + range.count - 1 - (process.pid % 1_000);

const objects = () =>
  ['shm', 'sem', 'msg'].map((kind) => readFileSync(`/proc/sysvipc/${kind}`, 'utf8').split(/\s+/).includes(String(UID)));

describe.runIf(range !== undefined)('what one user has left on this machine', () => {
  const [own, others, outwards] = ['own', 'others', 'outwards'].map((name) => join('/dev/shm', `${name}-${UID}`)) as [
    string,
    string,
    string,
  ];

  afterEach(async () => {
    for (const path of [own, others, outwards]) await rm(path, { recursive: true, force: true });
  });

  it('is removed, however it is closed, and nothing else', async () => {
    const [inner, link] = [join(own, 'inner'), join(own, 'inner', 'link')];
    await mkdir(inner, { recursive: true });
    await writeFile(others, 'kept');
    await symlink(others, link);
    await lchown(link, UID, UID);
    await chown(inner, UID, UID);
    await chmod(inner, 0);
    await chown(own, UID, UID);
    for (const args of [['-M', '4096'], ['-S', '3'], ['-Q']]) {
      expect(spawnSync('ipcmk', args, { uid: UID, gid: UID }).status).toBe(0);
    }
    expect(objects()).toEqual([true, true, true]);
    await symlink('/', outwards);
    await lchown(outwards, UID, UID);
    await removeLeftovers(UID);
    await expect(lstat(outwards)).rejects.toThrow('ENOENT');
    expect(objects()).toEqual([false, false, false]);
    expect(existsSync(own)).toBe(false);
    expect(readFileSync(others, 'utf8')).toBe('kept');
  });

  it('is removed with no other rights than that user’s', async () => {
    const file = join(own, 'of-root', 'file');
    await mkdir(join(own, 'of-root'), { recursive: true });
    await writeFile(file, 'kept');
    await chown(own, UID, UID);
    await removeLeftovers(UID);
    expect(readFileSync(file, 'utf8')).toBe('kept');
  });
});
