import { execFile } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { chmod, mkdir, readdir, rm, rmdir, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { TestEngine } from '../support/engine.js';
import { describeOnProcesses } from '../support/engines.js';
import { expectProblem } from '../support/http.js';
import { describeSkipped } from '../support/skipped.js';
import { Stage } from '../support/stage.js';
import { wheel } from '../support/wheels.js';

const run = promisify(execFile);
const MIB = 1024 * 1024;
const DISK_MIB = 160;
/** A function needs a little, its package far more. */
const LEFT_MIB = 8;
const PACKAGE_MIB = 20;
const TITLE = 'packages while the disk is full';

if (process.geteuid?.() === 0 && process.platform === 'linux') describeOnProcesses(TITLE, suite);
else describeSkipped(TITLE, 'only root on Linux can mount a small disk');

function suite(engine: TestEngine): void {
  const disk = mkdtempSync(join(tmpdir(), 'faas-small-disk-'));
  const [runtime, wheels, ballast] = ['r', 'w', 'ballast'].map((name) => join(disk, name)) as [string, string, string];

  // Before any manager is started, and after all are gone.
  beforeAll(async () => {
    await run('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MIB}m,mode=755`, 'none', disk]);
    await chmod(disk, 0o755);
    await Promise.all([runtime, wheels].map((folder) => mkdir(folder)));
    const files = { 'bulky/__init__.py': 'VERSION = 1\n', 'bulky/data.bin': Buffer.alloc(PACKAGE_MIB * MIB, 7) };
    const { file, bytes } = wheel('bulky', { files });
    await writeFile(join(wheels, file), bytes);
  });
  afterAll(async () => {
    await run('umount', [disk]);
    await rmdir(disk);
  });
  const stage = Stage.on(engine, { PROCESS_RUNTIME_DIR: runtime, PYTHON_WHEELS_DIR: wheels });

  const builds = async () => {
    const found = await Promise.all(
      (await readdir(runtime)).map((owner) => readdir(join(runtime, owner, '.builder', 'builds')).catch(() => [])),
    );
    return found.flat();
  };

  it('can’t be built, which leaves nothing behind, and can once there is room', async () => {
    const { manager } = stage;
    const { id } = await manager.add('def handle(payload):\n    return "former"\n');
    const { bavail, bsize } = await statfs(disk);
    await writeFile(ballast, Buffer.alloc(bavail * bsize - LEFT_MIB * MIB));
    const update = () =>
      manager.send(`/functions/${id}/revisions`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({
          code: 'import bulky\n\n\ndef handle(payload):\n    return bulky.VERSION\n',
          requirements: 'bulky',
        }),
      });
    const refused = expectProblem(await update(), 503, 'build_unavailable');
    expect(refused.detail).toMatch(/space/i);
    expect((await manager.call(id)).json()).toEqual({ result: 'former' });
    await vi.waitFor(async () => expect(await builds()).toEqual([]));

    await rm(ballast);
    const made = await update();
    expect(made.status, made.text).toBe(201);
    expect((await manager.call(id)).json()).toEqual({ result: 1 });
    await manager.remove(id);
  });
}
