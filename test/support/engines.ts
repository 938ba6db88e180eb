import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe } from 'vitest';
import {
  BUILDER_IMAGE,
  docker,
  FIREWALL,
  ignoreMissing,
  PLAIN_IMAGE,
  removeNetwork,
  whyNoDocker,
  WORKER_IMAGE,
} from '../docker/support/docker-tests.js';
import { CLUSTER_IMAGES } from '../kubernetes-cluster/support/images.js';
import { openNamespace } from '../kubernetes-cluster/support/room.js';
import { whyNoControlPlane } from '../kubernetes/control-plane/shared.js';
import { smallEngine } from '../kubernetes/support/small-room.js';
import { type EngineRoom, ON_CLUSTER, type TestEngine } from './engine.js';
import { describeSkipped } from './skipped.js';

const PYTHON = resolve(process.env['WORKER_PYTHON'] ?? '.cache/worker-venv/bin/python');

/** So that tests can tell which workers there are; `test/pool` is about the others. */
const NO_POOL = { WARM_POOL_SIZE: '0' };

const ofDocker = await onDocker(WORKER_IMAGE);
const ofProcesses: TestEngine = {
  name: 'process',
  missing: whyNoProcesses(),
  openRoom: openFolder,
};
const ofSmallCluster: TestEngine = { ...smallEngine(), missing: ofProcesses.missing ?? whyNoControlPlane() };
const ofCluster = onCluster(CLUSTER_IMAGES.worker);

function whyNoProcesses(): string | undefined {
  if (ON_CLUSTER) return 'the cluster is under test';
  return existsSync(PYTHON) ? undefined : `the worker's Python ${PYTHON} has not been set up`;
}

/** Runs a suite once for each engine; one that can't be used here is skipped by a name that says why. */
export function describeOnEachEngine(title: string, suite: (engine: TestEngine) => void): void {
  describeOnEachLocalEngine(title, suite);
  if (!ON_CLUSTER) describeOn(ofSmallCluster, title, suite);
}

/** The same, but on Kubernetes only where a real one is under test: the provider's own suites say it of the small one. */
export function describeOnEachLocalEngine(title: string, suite: (engine: TestEngine) => void): void {
  for (const engine of ON_CLUSTER ? [ofCluster] : [ofDocker, ofProcesses]) describeOn(engine, title, suite);
}

/** Runs a suite about moving from one engine to the other, or skips it by a name that says why. */
export function describeOnBothEngines(title: string, suite: (one: TestEngine, other: TestEngine) => void): void {
  const missing = ofDocker.missing ?? ofProcesses.missing;
  if (missing === undefined) describe(title, () => suite(ofProcesses, ofDocker));
  else describeSkipped(title, missing);
}

/** Runs a suite that is about the manager alone, on whichever engine there is. */
export function describeOnAnyEngine(title: string, suite: (engine: TestEngine) => void): void {
  if (ON_CLUSTER) describeOn(ofCluster, title, suite);
  else describeOn(ofProcesses.missing === undefined ? ofProcesses : ofDocker, title, suite);
}

/** Runs a suite where workers are containers with a limit of their own on memory. */
export function describeOnContainers(title: string, suite: (engine: TestEngine) => void): void {
  describeOn(ON_CLUSTER ? ofCluster : ofDocker, title, suite);
}

/** Runs a suite where workers are processes of this machine, or skips it by a name that says why. */
export function describeOnProcesses(title: string, suite: (engine: TestEngine) => void): void {
  describeOn(ofProcesses, title, suite);
}

/** The same where functions can have packages. */
export function describeOnEachEngineWithLayers(title: string, suite: (engine: TestEngine) => void): void {
  const missing = 'pods of the cluster have no way to the managers of these tests';
  const engines = ON_CLUSTER ? [{ ...ofCluster, missing }] : [ofDocker, ofProcesses, ofSmallCluster];
  for (const engine of engines) describeOn(engine, title, suite);
}

/** Runs a suite on Docker, or skips it by a name that says why. */
export function describeOnDocker(title: string, suite: (engine: TestEngine) => void): void {
  describeOn(ofDocker, title, suite);
}

/** Runs a suite with an image that offers the bare contract, or skips it by a name that says why. */
export async function describeOnPlainImage(title: string, suite: (engine: TestEngine) => void): Promise<void> {
  describeOn(ON_CLUSTER ? onCluster(CLUSTER_IMAGES.plain) : await onDocker(PLAIN_IMAGE), title, suite);
}

async function onDocker(image: string): Promise<TestEngine> {
  const missing = ON_CLUSTER ? 'the cluster is under test' : await whyNoDocker(image);
  return { name: 'docker', missing, openRoom: () => openNetwork(image) };
}

function onCluster(image: string): TestEngine {
  return { name: 'kubernetes', missing: undefined, openRoom: () => openNamespace(image) };
}

function describeOn(engine: TestEngine, title: string, suite: (engine: TestEngine) => void): void {
  const { name, missing } = engine;
  if (missing === undefined) describe(`${title} [${name}]`, () => suite(engine));
  else describeSkipped(`${title} [${name}]`, missing);
}

async function openNetwork(image: string): Promise<EngineRoom> {
  const network = `faas-e2e-${randomBytes(4).toString('hex')}`;
  const volume = `${network}-layers`;
  const containers = () => docker.listContainers({ all: true, filters: { network: [network] } });
  return {
    env: {
      ...NO_POOL,
      DEPLOYMENT_ENV: 'docker',
      WORKER_IMAGE: image,
      DOCKER_NETWORK: network,
      WORKER_FIREWALL: FIREWALL,
      BUILDER_IMAGE,
      DOCKER_LAYERS_VOLUME: volume,
    },
    nowhere: { DOCKER_HOST: 'unix:///nowhere/docker.sock' },
    workers: async () => (await containers()).map(({ Names, Id }) => Names[0] ?? Id),
    clear: async () => {
      for (const { Id } of await containers()) await docker.getContainer(Id).remove({ force: true, v: true });
      await removeNetwork(network);
      for (const kind of ['build', 'build-offline']) await removeNetwork(`${network}-${kind}`);
      for (const name of [volume, `${volume}-cache`]) await docker.getVolume(name).remove().catch(ignoreMissing);
    },
  };
}

async function openFolder(): Promise<EngineRoom> {
  // Short, for the sockets in it.
  const folder = await mkdtemp(join(tmpdir(), 'fe-'));
  return {
    env: {
      ...NO_POOL,
      DEPLOYMENT_ENV: 'process',
      WORKER_PYTHON: PYTHON,
      PROCESS_RUNTIME_DIR: folder,
      // Else a key would be made in the folder of this project's own manager.
      AUTH_DISABLED: 'true',
      LISTEN_ADDR: '127.0.0.1:0',
    },
    nowhere: { WORKER_PYTHON: '/nowhere/python' },
    // A worker is several processes around one socket.
    workers: async () => [...new Set((await workerProcesses(folder)).map(({ socket }) => socket))].toSorted(),
    clear: async () => {
      for (const { pid } of await workerProcesses(folder)) kill(pid);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Workers have their socket's path, which is inside the folder, in their environment. */
async function workerProcesses(folder: string): Promise<{ pid: number; socket: string }[]> {
  const names = existsSync('/proc/self/environ') ? await readdir('/proc') : [];
  const found: { pid: number; socket: string }[] = [];
  for (const pid of names.filter((name) => /^\d+$/.test(name)).map(Number)) {
    const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
    const socket = environment.split('\0').find((variable) => variable.startsWith(`FAAS_SOCKET=${folder}/`));
    if (socket !== undefined) found.push({ pid, socket });
  }
  return found;
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}
