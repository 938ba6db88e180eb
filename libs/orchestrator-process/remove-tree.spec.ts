import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { removeTrees } from './remove-tree.js';

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
