import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, chown, lchown, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findInterpreter, type Interpreter } from './interpreter.js';
import { ownUidRange } from './isolation.js';
import { removeLeftovers } from './leftovers.js';

const range = ownUidRange();
const UID = range === undefined ? 0 : range.first + range.count - 2 - (process.pid % 1_000);
const PYTHON = resolve(process.env['WORKER_PYTHON'] ?? '.cache/worker-venv/bin/python');

const objects = () =>
  ['shm', 'sem', 'msg'].map((kind) => readFileSync(`/proc/sysvipc/${kind}`, 'utf8').split(/\s+/).includes(String(UID)));

describe.runIf(range !== undefined)('what one user has left on this machine', () => {
  let runtimeDir: string;
  let interpreter: Interpreter;
  const [own, others] = [join('/dev/shm', `own-${UID}`), join('/dev/shm', `others-${UID}`)];

  beforeAll(async () => {
    runtimeDir = await mkdtemp(join(tmpdir(), 'leftovers-'));
    await chmod(runtimeDir, 0o755);
    const config = { python: PYTHON, workerDir: resolve('apps/worker'), runtimeDir };
    interpreter = await findInterpreter(config, UID);
  });
  afterAll(async () => {
    for (const path of [own, others, runtimeDir]) await rm(path, { recursive: true, force: true });
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
    await removeLeftovers(interpreter, UID);
    expect(objects()).toEqual([false, false, false]);
    expect(existsSync(own)).toBe(false);
    expect(readFileSync(others, 'utf8')).toBe('kept');
  });

  it('is removed with no other rights than that user’s', async () => {
    const file = join(own, 'of-root', 'file');
    await mkdir(join(own, 'of-root'), { recursive: true });
    await writeFile(file, 'kept');
    await chown(own, UID, UID);
    await removeLeftovers(interpreter, UID);
    expect(readFileSync(file, 'utf8')).toBe('kept');
  });
});
