import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import Docker from 'dockerode';
import { pack } from 'tar-stream';
import { isHealthy, untilHealthy } from './health.mjs';

const IMAGE = process.env.WORKER_IMAGE || 'faas-worker:local';
const PORT = 8000;
const PORT_KEY = `${PORT}/tcp`;
const PING_MS = 3_000;
const REMOVAL_TRIES = 5;

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
      WARM_POOL_SIZE: process.env.WARM_POOL_SIZE || '0',
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

  /** The worker of a function, by the way that the manager takes. */
  async workerTarget(id) {
    // By name: one from the warm pool has no label of its function.
    const [found] = await this.#docker.listContainers({ filters: { name: [`^/?faas-worker-${id}(-|$)`] } });
    if (found === undefined) throw new Error(`Function ${id} has no container.`);
    return this.#reach(found.Id);
  }

  /** The same image without a manager: a container made, given the code, started, and asked until it is healthy. */
  async startBare({ code, handler }) {
    const container = await this.#docker.createContainer({
      Image: IMAGE,
      Env: [`HANDLER_FUNCTION=function.handler.${handler}`],
      ExposedPorts: { [PORT_KEY]: {} },
      Healthcheck: { Test: ['NONE'] },
      HostConfig: {
        NetworkMode: this.#network,
        PortBindings: { [PORT_KEY]: [{ HostIp: '127.0.0.1', HostPort: '' }] },
      },
    });
    await container.putArchive(archive('function/handler.py', code), { path: '/app' });
    await container.start();
    await untilHealthy(await this.#reach(container.id, { wait: false }));
    return { end: () => container.remove({ force: true, v: true }) };
  }

  /** Ends and removes everything on the network, and the network. */
  async clear() {
    for (let tries = 1; ; tries += 1) {
      const filters = { network: [this.#network] };
      for (const { Id } of await this.#docker.listContainers({ all: true, filters })) {
        await this.#docker.getContainer(Id).remove({ force: true, v: true }).catch(ignoreMissing);
      }
      try {
        await this.#docker.getNetwork(this.#network).remove().catch(ignoreMissing);
        return;
      } catch (error) {
        // A container that was on its way has joined meanwhile.
        if (tries === REMOVAL_TRIES) throw error;
        await delay(500);
      }
    }
  }

  /** By its own address where this machine has a way to it, else by its port on loopback. */
  async #reach(id, { wait = true } = {}) {
    const { NetworkSettings } = await this.#docker.getContainer(id).inspect();
    const address = NetworkSettings.Networks[this.#network]?.IPAddress;
    const direct = { origin: `http://${address}:${PORT}`, path: '/' };
    if (process.platform === 'linux' && address && (!wait || (await isHealthy(direct)))) return direct;
    const port = NetworkSettings.Ports[PORT_KEY]?.[0]?.HostPort;
    return { origin: `http://127.0.0.1:${port}`, path: '/' };
  }
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
