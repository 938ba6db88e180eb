import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FunctionLock } from './function-lock.js';
import { processTable } from './process-table.js';

const ENDED = { pid: 2 ** 22 + 1, startTime: '1' };
const signal = () => AbortSignal.timeout(5_000);

describe('FunctionLock', () => {
  const table = processTable(process.platform);
  let folder: string;
  let lock: FunctionLock;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'function-lock-'));
    lock = new FunctionLock(table, { pid: process.pid, startTime: (await table.startTime(process.pid)) ?? '' });
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('lets one in at a time, and leaves nothing behind', async () => {
    let inside = 0;
    const enter = async () => {
      await using _held = await lock.acquire(join(folder, 'one'), signal());
      inside += 1;
      expect(inside).toBe(1);
      await Promise.resolve();
      inside -= 1;
    };
    await Promise.all(Array.from({ length: 5 }, enter));
    expect(await readdir(folder)).toEqual([]);
  });

  it('breaks the lock of a manager that was killed', async () => {
    await writeFile(join(folder, 'one'), JSON.stringify({ ...ENDED, nonce: 'x' }));
    await using _held = await lock.acquire(join(folder, 'one'), signal());
    expect(await readdir(folder)).toEqual(['one']);
  });

  it('clears away what managers left that were killed while they took a lock, and nothing in use', async () => {
    const mine = { pid: process.pid, startTime: await table.startTime(process.pid) };
    await writeFile(join(folder, 'one.killed-after-writing'), JSON.stringify(ENDED));
    await writeFile(join(folder, 'one.killed-while-writing'), '');
    const longAgo = new Date(Date.now() - 60_000);
    await utimes(join(folder, 'one.killed-while-writing'), longAgo, longAgo);
    await writeFile(join(folder, 'two.just-being-written'), '');
    await writeFile(join(folder, 'two.in-use'), JSON.stringify(mine));
    await lock.tidy(folder);
    expect((await readdir(folder)).toSorted()).toEqual(['two.in-use', 'two.just-being-written']);
  });

  it('clears away the locks of killed managers, which nobody may want any more, and none that is held', async () => {
    await writeFile(join(folder, 'gone'), JSON.stringify({ ...ENDED, nonce: 'x' }));
    await writeFile(join(folder, 'lost-with-the-machine'), '');
    await using _held = await lock.acquire(join(folder, 'held'), signal());
    await lock.tidy(folder);
    expect(await readdir(folder)).toEqual(['held']);
  });
});
