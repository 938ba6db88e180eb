import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, vi } from 'vitest';
import type { V1Pod } from '@kubernetes/client-node';
import { POD } from '#libs/orchestrator-kubernetes/kinds.js';
import { LABEL } from '#libs/orchestrator-kubernetes/labels.js';
import { docker, withoutWaiting, WORKER_IMAGE } from '../docker/support/docker-tests.js';
import type { SmallRoom } from '../kubernetes/support/small-room.js';
import type { EngineRoom } from './engine.js';
import type { Stage } from './stage.js';

/** Has everything vanish that is unpacked for workers, behind the manager's back. */
export async function wipeLayers(stage: Stage): Promise<void> {
  switch (stage.engine.name) {
    case 'kubernetes': {
      // Each pod has its own, and goes with it.
      const { core, namespace } = clusterOf(stage.room);
      await core.deleteCollectionNamespacedPod({ namespace, labelSelector: 'func', gracePeriodSeconds: 0 });
      return;
    }
    case 'docker':
      await inVolume(volumeOf(stage), 'rm -rf /volume/*');
      return;
    case 'process':
      for (const owner of await ownersOf(stage)) await rm(join(owner, '.layers'), { recursive: true, force: true });
  }
}

/** The same with what is in them; the folders stay. */
export async function emptyLayers(stage: Stage): Promise<void> {
  if (stage.engine.name === 'docker') await inVolume(volumeOf(stage), 'rm -rf /volume/in-*/*');
  if (stage.engine.name !== 'process') return;
  for (const owner of await ownersOf(stage)) {
    const layers = join(owner, '.layers');
    for (const layer of await readdir(layers)) {
      for (const name of await readdir(join(layers, layer))) await rm(join(layers, layer, name), { recursive: true });
    }
  }
}

/** How many bytes builds on this machine have left for later ones. */
export async function cachedBytes(stage: Stage): Promise<number> {
  if (stage.engine.name === 'docker') {
    return Number(/^\d+/.exec(await inVolume(`${volumeOf(stage)}-cache`, 'du -sb /volume'))?.[0]);
  }
  let bytes = 0;
  for (const owner of await ownersOf(stage)) {
    const cache = join(owner, '.builder', 'cache');
    for (const entry of await readdir(cache, { recursive: true, withFileTypes: true }).catch(() => [])) {
      if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name)).catch(() => undefined))?.size ?? 0;
    }
  }
  return bytes;
}

function volumeOf({ room }: Stage): string {
  return room.env['DOCKER_LAYERS_VOLUME']!;
}

async function ownersOf({ room }: Stage): Promise<string[]> {
  const folder = room.env['PROCESS_RUNTIME_DIR']!;
  return (await readdir(folder)).filter((name) => !name.startsWith('.')).map((name) => join(folder, name));
}

/** What a command prints in a container that has the volume at `/volume`. */
async function inVolume(volume: string, command: string): Promise<string> {
  const container = await docker.createContainer({
    Image: WORKER_IMAGE,
    User: '0:0',
    Entrypoint: ['sh', '-c', command],
    Tty: true,
    HostConfig: { NetworkMode: 'none', Binds: [`${volume}:/volume`] },
  });
  try {
    await container.start();
    expect(await container.wait()).toMatchObject({ StatusCode: 0 });
    return String(await container.logs({ stdout: true }));
  } finally {
    await container.remove({ force: true });
  }
}

/** Kills whatever builds a layer here. */
export async function killBuilds({ engine, room }: Stage): Promise<void> {
  if (engine.name === 'docker') {
    const network = `${room.env['DOCKER_NETWORK']}-build`;
    const builds = await docker.listContainers({ filters: { network: [network] } });
    const killed = builds.map(({ Id }) =>
      docker
        .getContainer(Id)
        .kill()
        .then(() => true, isOver),
    );
    expect(await Promise.all(killed)).toContain(true);
    return;
  }
  if (engine.name === 'kubernetes') {
    const pods = await podsOfBuilds(room);
    expect(pods).not.toEqual([]);
    for (const pod of pods) expect(await clusterOf(room).node.kill(pod)).toBe(1);
    return;
  }
  const found = await builders(room.env['PROCESS_RUNTIME_DIR']!);
  expect(found.filter(killsNow)).not.toEqual([]);
}

/** That of a former build may end just now. Throws what else keeps a container from being killed. */
function isOver(error: unknown): false {
  const { statusCode } = error as { readonly statusCode?: number };
  if (statusCode !== 404 && statusCode !== 409) throw error;
  return false;
}

/** Kills it, or says that it has ended: one goes with another that it belongs to. */
function killsNow(pid: number): boolean {
  try {
    return process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    return false;
  }
}

export async function nothingIsBuilt({ engine, room }: Stage): Promise<void> {
  await vi.waitFor(
    async () => {
      if (engine.name === 'kubernetes') return expect(await podsOfBuilds(room)).toEqual([]);
      if (engine.name !== 'docker') return expect(await builders(room.env['PROCESS_RUNTIME_DIR']!)).toEqual([]);
      const network = ['build', 'build-offline'].map((kind) => `${room.env['DOCKER_NETWORK']}-${kind}`);
      const builds = await docker.listContainers({ all: true, filters: { network } });
      expect((await withoutWaiting(builds)).map(({ Names, Status }) => `${Names[0]}: ${Status}`)).toEqual([]);
    },
    { timeout: 60_000 },
  );
}

export async function podsOfBuilds(room: EngineRoom): Promise<string[]> {
  const pods = (await clusterOf(room).ours(POD)) as V1Pod[];
  return pods.flatMap(({ metadata }) => (metadata?.labels?.[LABEL.build] === undefined ? [] : (metadata.name ?? [])));
}

function clusterOf(room: EngineRoom): SmallRoom['cluster'] {
  return (room as SmallRoom).cluster;
}

async function builders(folder: string): Promise<number[]> {
  const found: number[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
    if (words.includes('faas_builder') && words.some((word) => word.startsWith(folder))) found.push(Number(pid));
  }
  return found;
}
