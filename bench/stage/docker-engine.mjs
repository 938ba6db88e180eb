import { randomBytes } from 'node:crypto';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import Docker from 'dockerode';
import { pack } from 'tar-stream';
import { indexEnvironment, uvEnvironment } from './package-index.mjs';
import { isGeneric, isHealthy, untilGeneric, untilHealthy } from './health.mjs';

const BUILDER = process.env.BUILDER_IMAGE || 'faas-builder:local';
const IMAGE = process.env.WORKER_IMAGE || 'faas-worker:local';
const PORT = 8000;
const PORT_KEY = `${PORT}/tcp`;
const PING_MS = 3_000;
const REMOVAL_TRIES = 10;
const BUILDER_MS = 30_000;
const POOL_PREFIX = '/faas-pool-';

/** Functions in containers, on a network that only this run uses. */
export class DockerEngine {
  name = 'docker';
  #docker = new Docker();
  #network = `faas-bench-${randomBytes(4).toString('hex')}`;

  /** What the manager is told. */
  get environment() {
    return {
      DEPLOYMENT_ENV: 'docker',
      DOCKER_NETWORK: this.#network,
      WORKER_IMAGE: IMAGE,
      BUILDER_IMAGE: BUILDER,
    };
  }

  /** Why it can't be used; undefined when it can. */
  async missing() {
    const answers = this.#docker.ping().then(
      () => true,
      () => false,
    );
    if (!(await Promise.race([answers, delay(PING_MS, false, { ref: false })]))) return 'no Docker engine answers';
    const image = await this.#docker.getImage(IMAGE).inspect().catch(ignoreMissing);
    return image === undefined ? `the image ${IMAGE} is not there (npm run images)` : undefined;
  }

  async describe() {
    return `docker ${(await this.#docker.version()).Version}`;
  }

  /** What a manager is told of where packages come from. */
  indexEnvironment() {
    return indexEnvironment();
  }

  /** How many milliseconds a container with uv takes for a package and what it needs, with nothing in its cache. */
  async installByHand(requirement) {
    const environment = { UV_CACHE_DIR: '/tmp/cache', UV_NO_CONFIG: '1', UV_SYSTEM_CERTS: '1', ...uvEnvironment() };
    const began = performance.now();
    const container = await this.#docker.createContainer({
      Image: BUILDER,
      Env: Object.entries(environment).map(([name, value]) => `${name}=${value}`),
      Cmd: ['/opt/builder/bin/uv', 'pip', 'install', '--target', '/tmp/packages', '--python', 'python3', requirement],
    });
    try {
      const ended = container.wait({ condition: 'next-exit' });
      await container.start();
      const { StatusCode } = await ended;
      const took = Math.round((performance.now() - began) * 10) / 10;
      if (StatusCode === 0) return took;
      throw new Error(String(await container.logs({ stdout: true, stderr: true })).slice(-500));
    } finally {
      await container.remove({ force: true, v: true }).catch(ignoreMissing);
    }
  }

  /**
   * What is in the volume of layers of an installation, and for each worker of a function: which file it has of a layer,
   * from where it has it, and how many bytes it has written beside.
   */
  async layersUse(id) {
    const found = await this.#docker.listContainers({ filters: { name: [`^/?faas-worker-${id}(-|$)`] } });
    const replicas = await Promise.all(found.map(({ Id }) => this.#layerOf(Id)));
    return { layers: Number(await this.#printed(replicas[0].container, SIZE)), replicas };
  }

  async #layerOf(Id) {
    const container = this.#docker.getContainer(Id);
    const { Mounts, SizeRw } = await container.inspect({ size: true });
    const mount = Mounts.find(({ Destination }) => Destination === '/layers');
    return { container: Id, source: mount.Source, written: SizeRw ?? 0, file: await this.#printed(Id, IDENTITY) };
  }

  async #printed(container, program) {
    const Env = [];
    const exec = await this.#docker.getContainer(container).exec({
      Cmd: ['python3', '-c', program],
      User: '0:0',
      AttachStdout: true,
      AttachStderr: true,
      Env,
    });
    const stream = await exec.start({});
    const [output, errors] = [new PassThrough(), new PassThrough()];
    this.#docker.modem.demuxStream(stream, output, errors);
    stream.on('end', () => {
      output.end();
      errors.end();
    });
    const [said, wrong] = await Promise.all([text(output), text(errors)]);
    if (wrong !== '') throw new Error(wrong);
    return said.trim();
  }

  /** The worker of a function, by the way that the manager takes. */
  async workerTarget(id) {
    return this.#reach(await this.#workerOf(id));
  }

  /** What the worker of a function keeps in memory, in bytes, without what the system may drop at any time. */
  async workerMemory(id) {
    return memoryOf(this.#docker.getContainer(await this.#workerOf(id)));
  }

  /** Workers that wait for a function, and whether all of them are up; everything else that runs. */
  async census() {
    const containers = await this.#containers();
    const pool = containers.filter(({ Names }) => Names.some((name) => name.startsWith(POOL_PREFIX)));
    const up = await Promise.all(pool.map(({ Id }) => this.#isUp(Id)));
    return { generic: pool.length, areUp: up.every(Boolean), others: containers.length - pool.length };
  }

  /** Until an installation that has built something is ready to do so again. */
  async untilBuilderWaits(owner) {
    const until = performance.now() + BUILDER_MS;
    for (;;) {
      const found = await this.#docker.listContainers({ filters: { name: [`^/faas-build-${owner}-`] } });
      for (const { Id } of found) if (await this.#isUp(Id)) return;
      if (performance.now() > until) throw new Error('No builder waits.');
      await delay(100);
    }
  }

  /** Everything of one installation that is neither in the pool nor removed. */
  async leftovers(owner) {
    const containers = await this.#docker.listContainers({ all: true, filters: { label: [`faas.owner=${owner}`] } });
    const left = containers.filter(({ Names }) => !Names.some((name) => name.startsWith(POOL_PREFIX)));
    return left.length + (await this.#volumes(owner)).length;
  }

  /** The same image without a manager: a container made, given the code, started, and asked until it is healthy. */
  startBare({ code, handler }) {
    const options = { Env: [`HANDLER_FUNCTION=function.handler.${handler}`] };
    return this.#run(options, { 'function/handler.py': code });
  }

  /** The same image without a manager, up and waiting for a function: told so by these variables. */
  startGeneric(environment) {
    const Env = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
    return this.#run({ Env, HostConfig: { Tmpfs: { '/app': 'rw,mode=1777' } } }, {}, untilGeneric);
  }

  /** Plain routes around the same handlers, with the image's Python. */
  startPlain(files) {
    const options = { Cmd: ['python3', '/app/plain_fastapi.py', String(PORT), '0.0.0.0'] };
    return this.#run(options, files);
  }

  /** Ends and removes everything of one installation; its manager has ended. */
  async clearOf(owner) {
    await this.#removeAll(
      await this.#docker.listContainers({ all: true, filters: { label: [`faas.owner=${owner}`] } }),
    );
    for (const volume of await this.#volumes(owner)) {
      await this.#docker.getVolume(volume).remove().catch(ignoreMissing);
    }
  }

  /** Ends and removes everything on the network, and the network. */
  async clear() {
    for (let tries = 1; ; tries += 1) {
      await this.#removeAll(await this.#containers());
      try {
        for (const name of [this.#network, `${this.#network}-build`]) {
          await this.#docker.getNetwork(name).remove().catch(ignoreMissing);
        }
        return;
      } catch (error) {
        // A container that was on its way has joined meanwhile, or one that is gone has yet to leave.
        if (tries === REMOVAL_TRIES) throw error;
        await delay(500);
      }
    }
  }

  async #removeAll(containers) {
    for (const { Id } of containers) {
      await this.#docker.getContainer(Id).remove({ force: true, v: true }).catch(ignoreMissing);
    }
  }

  async #run(options, files, untilUp = untilHealthy) {
    const container = await this.#docker.createContainer({
      Image: IMAGE,
      ...options,
      ExposedPorts: { [PORT_KEY]: {} },
      Healthcheck: { Test: ['NONE'] },
      HostConfig: {
        ...options.HostConfig,
        NetworkMode: this.#network,
        PortBindings: { [PORT_KEY]: [{ HostIp: '127.0.0.1', HostPort: '' }] },
      },
    });
    for (const [name, content] of Object.entries(files)) {
      await container.putArchive(archive(name, content), { path: '/app' });
    }
    await container.start();
    const target = await this.#reach(container.id, { wait: false });
    await untilUp(target);
    return {
      target: (path) => ({ ...target, path }),
      memory: () => memoryOf(container),
      end: () => container.remove({ force: true, v: true }).catch(ignoreMissing),
    };
  }

  async #workerOf(id) {
    // By name: one from the warm pool has no label of its function.
    const [found] = await this.#docker.listContainers({ filters: { name: [`^/?faas-worker-${id}(-|$)`] } });
    if (found === undefined) throw new Error(`Function ${id} has no container.`);
    return found.Id;
  }

  /** One that has no address yet, or is gone, isn't. */
  async #isUp(id) {
    return this.#reach(id, { wait: false }).then(isGeneric, () => false);
  }

  #containers() {
    return this.#docker.listContainers({ all: true, filters: { network: [this.#network] } });
  }

  /** Some are known by a label, one that was made while the engine was killed by its name only. */
  async #volumes(owner) {
    const filters = [
      { label: [`faas.owner=${owner}`] },
      { label: [`faas.claim=${owner}`] },
      { name: [`faas-code-${owner}-`] },
    ];
    const lists = await Promise.all(filters.map((one) => this.#docker.listVolumes({ filters: JSON.stringify(one) })));
    return [...new Set(lists.flatMap(({ Volumes }) => (Volumes ?? []).map(({ Name }) => Name)))];
  }

  /** By its own address where this machine has a way to it, else by its port on loopback. */
  async #reach(id, { wait = true } = {}) {
    const { NetworkSettings } = await this.#docker.getContainer(id).inspect();
    const { [this.#network]: own, [`${this.#network}-build`]: ofBuilds } = NetworkSettings.Networks;
    const address = (own ?? ofBuilds)?.IPAddress;
    const direct = { origin: `http://${address}:${PORT}`, path: '/' };
    if (process.platform === 'linux' && address && (!wait || (await isHealthy(direct)))) return direct;
    const port = NetworkSettings.Ports[PORT_KEY]?.[0]?.HostPort;
    if (port === undefined) throw new Error(`Container ${id} has no address.`);
    return { origin: `http://127.0.0.1:${port}`, path: '/' };
  }
}

/** What the folder of layers takes. */
const SIZE = `import os
print(sum(os.lstat(os.path.join(at, name)).st_blocks * 512 for at, _, files in os.walk("/layers") for name in files))`;
/** Device and number of the largest file of a layer. */
const IDENTITY = `import os
found = [os.stat(os.path.join(at, name)) for at, _, files in os.walk("/layers") for name in files]
file = max(found, key=lambda one: one.st_size)
print(file.st_dev, file.st_ino)`;

async function memoryOf(container) {
  const { memory_stats: memory } = await container.stats({ stream: false, 'one-shot': true });
  // The engine counts files read lately, under one name or the other, which the system drops when it needs the room.
  return memory.usage - (memory.stats.total_inactive_file ?? memory.stats.inactive_file ?? 0);
}

function archive(name, content) {
  const tar = pack();
  tar.entry({ name, mode: 0o644 }, content);
  tar.finalize();
  return tar;
}

function ignoreMissing(error) {
  if (error.statusCode === 404) return undefined;
  throw error;
}
