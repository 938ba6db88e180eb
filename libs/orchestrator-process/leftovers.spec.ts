import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, chown, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { removeLeftovers } from './leftovers.js';

const UID = 1_999_000_000 + (process.pid % 100_000);

const objects = () =>
  ['shm', 'sem', 'msg'].map((kind) => readFileSync(`/proc/sysvipc/${kind}`, 'utf8').split(/\s+/).includes(String(UID)));

it.runIf(process.geteuid?.() === 0)('removes what one user has left on this machine, and nothing else', async () => {
  const [own, others] = [join('/dev/shm', `own-${UID}`), join('/dev/shm', `others-${UID}`)];
  await mkdir(join(own, 'inner'), { recursive: true });
  await writeFile(others, 'kept');
  await symlink(others, join(own, 'inner', 'link'));
  await chown(own, UID, UID);
  for (const args of [['-M', '4096'], ['-S', '3'], ['-Q']]) {
    expect(spawnSync('ipcmk', args, { uid: UID, gid: UID }).status).toBe(0);
  }
  expect(objects()).toEqual([true, true, true]);
  await removeLeftovers(UID);
  expect(objects()).toEqual([false, false, false]);
  expect(existsSync(own)).toBe(false);
  expect(readFileSync(others, 'utf8')).toBe('kept');
  await rm(others);
});
