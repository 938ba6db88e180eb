import { randomBytes } from 'node:crypto';
import Docker from 'dockerode';
import { pino } from 'pino';
import { vi } from 'vitest';
import { type DockerConfig, NO_POOL, type PoolConfig } from '#libs/config/config.js';
import { loadConfig } from '#libs/config/load-config.js';
import { kindOf } from '#libs/orchestrator/generic-worker.js';
import { TEST_TOKENS } from '#libs/orchestrator/testing/tokens.js';
import { connectDocker } from '#libs/orchestrator-docker/create-docker-orchestrator.js';
import { ensureChains, families } from '#libs/orchestrator-docker/packet-filter.js';
import { WORKER_PORT } from '#libs/orchestrator-docker/replica.js';
import { DockerOrchestrator } from '#libs/orchestrator-docker/docker.orchestrator.js';

export const WORKER_IMAGE = process.env['DOCKER_TEST_WORKER_IMAGE'] ?? 'faas-worker:local';
export const BUILDER_IMAGE = process.env['DOCKER_TEST_BUILDER_IMAGE'] ?? 'faas-builder:local';
export const PLAIN_IMAGE = process.env['DOCKER_TEST_PLAIN_IMAGE'] ?? 'faas-plain:test';
const REQUIRED = process.env['REQUIRE_DOCKER'] === '1';

/** Who can't set rules would try from inside a container, in every suite and beside the workers that it counts. */
export const FIREWALL = process.getuid?.() === 0 ? 'auto' : 'off';

export const docker: Docker = connectDocker();
const logger = pino({ level: process.env['LOG_LEVEL'] ?? 'silent' });

/**
 * Why suites that need the engine and these images can't run here; undefined when they can. With REQUIRE_DOCKER=1 they
 * run in any case, so that they fail where they should have been possible.
 */
export async function whyNoDocker(...images: string[]): Promise<string | undefined> {
  const reason = await missing(images);
  if (reason === undefined || REQUIRED) return undefined;
  process.stderr.write(`skipped: ${reason}\n`);
  return reason;
}

async function missing(images: string[]): Promise<string | undefined> {
  try {
    await docker.ping();
  } catch (error) {
    return `no Docker engine answers (${(error as Error).message})`;
  }
  for (const image of images) {
    const there = await docker
      .getImage(image)
      .inspect()
      .then(
        () => true,
        () => false,
      );
    if (!there) return `the image ${image} has not been built`;
  }
  return undefined;
}

/** A network of its own for each suite, so that suites can't disturb each other. */
export function testConfig(changes: Partial<DockerConfig> = {}): DockerConfig {
  return {
    image: WORKER_IMAGE,
    registry: undefined,
    network: `faas-test-${randomBytes(4).toString('hex')}`,
    internal: false,
    reach: 'auto',
    firewall: { mode: FIREWALL, allow: [] },
    seccomp: 'own',
    runtime: '',
    ...changes,
  };
}

/** The same with a volume for packages, which goes with the network. */
export function withLayers(config: DockerConfig): DockerConfig {
  return { ...config, layers: { ...loadConfig({}).layers, volume: `${config.network}-layers` } };
}

/** Of other limits than the workloads of tests, so that they have to be changed. */
export const POOL: PoolConfig = { size: 2, memoryMiB: 192, cpuMillis: 1_000, pids: 128 };

export function openDocker(
  config: DockerConfig,
  owner: string,
  engine: Docker = connectDocker(),
  pool: PoolConfig = NO_POOL,
): DockerOrchestrator {
  return new DockerOrchestrator(config, owner, TEST_TOKENS, logger, engine, pool);
}

/**
 * A container that is being removed leaves its network only a moment after it is listed no more. One that is removed
 * while it is being stopped may leave an end of its connection behind, which an old engine forgets at its next start.
 */
export async function removeNetwork(name: string): Promise<void> {
  const network = docker.getNetwork(name);
  const remove = () => network.remove().catch(ignoreMissing);
  try {
    await vi.waitFor(remove, { timeout: 5_000, interval: 100 });
  } catch (error) {
    const { Containers: left } = await network.inspect();
    if (Object.keys(left ?? {}).length > 0) throw error;
  }
  await removeStaleRules();
}

/** Those containers that don't run to be given a function, or a job, later. */
export async function withoutWaiting(containers: readonly Docker.ContainerInfo[]): Promise<Docker.ContainerInfo[]> {
  const kinds = await Promise.all(
    containers.map(async ({ NetworkSettings }) => {
      const host = Object.values(NetworkSettings.Networks)[0]?.IPAddress;
      return host ? await kindOf({ kind: 'tcp', host, port: WORKER_PORT }, false) : undefined;
    }),
  );
  return containers.filter((_, index) => kinds[index] !== 'generic');
}

/** Rules of networks that are gone, where this process may. */
export async function removeStaleRules(): Promise<void> {
  for (const family of families()) await ensureChains(family, []).catch(() => undefined);
}

/** For what may be gone already. */
export function ignoreMissing(error: { statusCode?: number }): void {
  if (error.statusCode !== 404) throw error;
}
