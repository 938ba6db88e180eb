import { execFileSync } from 'node:child_process';
import { chmod, cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findInterpreter } from './interpreter.js';
import { workerUids } from './users.js';

const uid = workerUids()?.first;

describe.runIf(uid !== undefined)('a worker in a folder that its user can’t enter', () => {
  let closed: string;
  let runtimeDir: string;
  beforeEach(async () => {
    [closed, runtimeDir] = [await mkdtemp(join(tmpdir(), 'closed-')), await mkdtemp(join(tmpdir(), 'runtime-'))];
    await chmod(runtimeDir, 0o711);
    await cp('apps/worker/faas_worker', join(closed, 'faas_worker'), { recursive: true });
  });
  afterEach(async () => {
    for (const folder of [closed, runtimeDir]) await rm(folder, { recursive: true });
  });

  it('is copied to one that it can, with its packages', async () => {
    const python = resolve(process.env['WORKER_PYTHON'] ?? '.cache/worker-venv/bin/python');
    const { command, env } = await findInterpreter({ python, workerDir: closed, runtimeDir }, uid);
    const code = 'import faas_worker, fastapi; print(faas_worker.__file__, fastapi.__file__)';
    const shown = execFileSync(command, ['-c', code], { env, uid, gid: uid, cwd: '/', encoding: 'utf8' });
    for (const path of shown.trim().split(' ')) expect(path).toContain(join(runtimeDir, '.python-'));
  });
});
