import { expect, vi } from 'vitest';
import { callIfReachable } from '#libs/orchestrator/testing/contract.js';
import { type ContractHarness, Stage } from '#libs/orchestrator/testing/contract.stage.js';
import { kindOf } from '#libs/orchestrator/generic-worker.js';
import { LABEL } from '#libs/orchestrator-docker/labels.js';
import { addressOf, replicaOf } from '#libs/orchestrator-docker/replica.js';
import type { DockerOrchestrator } from '#libs/orchestrator-docker/docker.orchestrator.js';
import type Docker from 'dockerode';
import { type DockerConfig, NO_POOL, type PoolConfig } from '#libs/config/config.js';
import { connectDocker } from '#libs/orchestrator-docker/create-docker-orchestrator.js';
import { docker, ignoreMissing, openDocker, PLAIN_IMAGE, removeNetwork } from './docker-tests.js';

const FILL_TIMEOUT_MS = 60_000;
/** By another function's worker, and by another replica of the same one. */
const MISDIRECTED = new Set([421, 403]);

export function dockerHarness(
  config: DockerConfig,
  connect: () => Docker = connectDocker,
  pool: PoolConfig = NO_POOL,
): ContractHarness {
  return {
    open: async (owner) => {
      const orchestrator = openDocker(config, owner, connect(), pool);
      if (pool.size > 0 && config.image !== PLAIN_IMAGE) await filled(orchestrator, config, owner, pool.size);
      return orchestrator;
    },
    shut: (orchestrator) => (orchestrator as DockerOrchestrator).close(),
    call: async (endpoint, payload, signal) => {
      const answer = await callIfReachable(endpoint, payload, signal);
      if (MISDIRECTED.has(answer.status)) throw new Error('The address was given to another worker.');
      return answer;
    },
    kill: (_functionId, replica) => docker.getContainer(replica).kill(),
    close: async () => {
      await removeNetwork(config.network);
      const volume = config.layers?.volume;
      if (volume !== undefined) await docker.getVolume(volume).remove().catch(ignoreMissing);
    },
  };
}

/** Has a manager fill its pool, and waits until it has. */
async function filled(
  orchestrator: DockerOrchestrator,
  config: DockerConfig,
  owner: string,
  size: number,
): Promise<void> {
  const watching = new AbortController();
  const watched = orchestrator.watch(() => undefined, watching.signal);
  const before = new Set((await genericWorkers(config, owner)).map(({ id }) => id));
  await vi.waitFor(
    async () => {
      const fresh = (await genericWorkers(config, owner)).filter(({ id }) => !before.has(id));
      expect(fresh.length).toBeGreaterThanOrEqual(size);
    },
    { timeout: FILL_TIMEOUT_MS, interval: 100 },
  );
  watching.abort();
  await watched;
}

/** The containers of an owner that wait for a function. */
export async function genericWorkers(config: DockerConfig, owner: string) {
  const running = (await containersOf(owner)).filter(
    ({ State, Labels }) => State === 'running' && LABEL.pool in Labels,
  );
  const seen = running
    .map((container) => replicaOf(container))
    .map(async (replica) => {
      const address = addressOf(replica, config.network, 'address');
      return address !== undefined && (await kindOf(address, false, 500)) === 'generic' ? replica : undefined;
    });
  return (await Promise.all(seen)).filter((replica) => replica !== undefined);
}

/** One test's managers and functions on the real engine. */
export function dockerStage(config: DockerConfig, connect?: () => Docker, pool?: PoolConfig): Stage {
  return new Stage(dockerHarness(config, connect, pool), { deadlineMs: 30_000 });
}

export async function endStage(stage: Stage): Promise<void> {
  await stage.close();
  await stage.harness.close();
}

export function python(source: string, functionName = 'handle') {
  return { functionName, source };
}

/** Everything of one owner on the engine. */
export function containersOf(owner: string) {
  return docker.listContainers({ all: true, filters: { label: [`${LABEL.owner}=${owner}`] } });
}

export async function volumeNames(): Promise<string[]> {
  const { Volumes } = await docker.listVolumes();
  return Volumes.map(({ Name }) => Name);
}

export async function anonymousVolumes(): Promise<string[]> {
  return (await volumeNames()).filter((name) => /^[0-9a-f]{64}$/.test(name));
}
