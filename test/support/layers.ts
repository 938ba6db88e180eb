import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, vi } from 'vitest';
import { docker } from '../docker/support/docker-tests.js';
import type { Stage } from './stage.js';

/** Has everything vanish that is unpacked for workers, behind the manager's back. */
export async function wipeLayers({ engine, room }: Stage): Promise<void> {
  if (engine.name !== 'docker') {
    const owners = await readdir(room.env['PROCESS_RUNTIME_DIR']!);
    for (const owner of owners.filter((name) => !name.startsWith('.'))) {
      await rm(join(room.env['PROCESS_RUNTIME_DIR']!, owner, '.layers'), { recursive: true, force: true });
    }
    return;
  }
  const container = await docker.createContainer({
    Image: room.env['WORKER_IMAGE']!,
    User: '0:0',
    Entrypoint: ['sh', '-c', 'rm -rf /layers/*'],
    HostConfig: { NetworkMode: 'none', Binds: [`${room.env['DOCKER_LAYERS_VOLUME']}:/layers`] },
  });
  try {
    await container.start();
    expect(await container.wait()).toMatchObject({ StatusCode: 0 });
  } finally {
    await container.remove({ force: true });
  }
}

/** Kills whatever builds a layer here. */
export async function killBuilds({ engine, room }: Stage): Promise<void> {
  if (engine.name === 'docker') {
    const network = `${room.env['DOCKER_NETWORK']}-build`;
    const builds = await docker.listContainers({ filters: { network: [network] } });
    expect(builds).not.toEqual([]);
    await Promise.all(builds.map(({ Id }) => docker.getContainer(Id).kill()));
    return;
  }
  const found = await builders(room.env['PROCESS_RUNTIME_DIR']!);
  expect(found).not.toEqual([]);
  for (const pid of found) process.kill(pid, 'SIGKILL');
}

export async function nothingIsBuilt({ engine, room }: Stage): Promise<void> {
  await vi.waitFor(
    async () => {
      if (engine.name !== 'docker') return expect(await builders(room.env['PROCESS_RUNTIME_DIR']!)).toEqual([]);
      const network = `${room.env['DOCKER_NETWORK']}-build`;
      expect(await docker.listContainers({ all: true, filters: { network: [network] } })).toEqual([]);
    },
    { timeout: 20_000 },
  );
}

async function builders(folder: string): Promise<number[]> {
  const found: number[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
    if (words.includes('faas_builder') && words.some((word) => word.startsWith(folder))) found.push(Number(pid));
  }
  return found;
}
