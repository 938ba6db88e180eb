import { join } from 'node:path';
import type Docker from 'dockerode';
import { LABEL } from '#libs/orchestrator-docker/labels.js';
import { functionIdOf } from '#libs/orchestrator-docker/replica.js';
import { BUILDER_IMAGE, docker, withoutWaiting, WORKER_IMAGE } from '../../docker/support/docker-tests.js';
import { BRIDGE_HOST, DockerDaemon } from './docker-daemon.js';
import { processes } from './processes.js';
import type { Builds, CrashSite, EngineDaemon, WorkerView } from './site.js';

const NETWORK = 'faas-crash';
/** What is built is kept, by its digest. */
const LAYERS = 'faas-crash-layers';
const POOL_SIZE = 2;
/** What a container from the pool serves stands on a volume of its name. */
const CLAIM = 'faas-claim-';

/** Workers as containers of an engine that belongs to the suite alone: whatever is on it is the managers' doing. */
export class DockerSite implements CrashSite {
  readonly engine = 'docker';
  readonly env: Readonly<Record<string, string>>;
  readonly daemon: EngineDaemon;
  readonly builds: Builds = {
    indexHost: BRIDGE_HOST,
    kill: async () => {
      const filters = { network: [`${NETWORK}-build`] };
      for (const { Id } of await this.own.docker.listContainers({ filters })) {
        // It may end by itself.
        await this.own.docker
          .getContainer(Id)
          .kill()
          .catch(() => undefined);
      }
    },
  };
  readonly pool = { size: POOL_SIZE, waiting: () => this.running((functionId) => functionId === undefined) };

  private constructor(private readonly own: DockerDaemon) {
    this.env = {
      DEPLOYMENT_ENV: 'docker',
      DOCKER_HOST: own.host,
      DOCKER_NETWORK: NETWORK,
      WORKER_IMAGE,
      BUILDER_IMAGE,
      DOCKER_LAYERS_VOLUME: LAYERS,
      WARM_POOL_SIZE: String(POOL_SIZE),
    };
    this.daemon = { kill: () => own.kill(), restart: (keepWorkers) => own.start(keepWorkers) };
  }

  static async open(folder: string): Promise<DockerSite> {
    const daemon = new DockerDaemon(join(folder, 'd'));
    try {
      await daemon.start(false);
      for (const image of [WORKER_IMAGE, BUILDER_IMAGE]) await daemon.loadImage(image, docker);
    } catch (error) {
      await daemon.close();
      throw error;
    }
    return new DockerSite(daemon);
  }

  workers(): Promise<WorkerView[]> {
    return this.running((functionId) => functionId !== undefined);
  }

  private async running(isWanted: (functionId: string | undefined) => boolean): Promise<WorkerView[]> {
    const containers = (await this.containers()).filter((one) => isWanted(functionIdOf(one)));
    const running = containers.filter(({ State }) => State === 'running');
    const table = processes();
    const views = await Promise.all(
      running.map(async (container) => {
        const { Id } = container;
        const pid = await this.pidOf(Id);
        const runners = table.filter(({ parent }) => parent === pid).map((one) => one.pid);
        return pid === 0 ? [] : [{ functionId: functionIdOf(container) ?? '', replica: Id, pid, runners }];
      }),
    );
    return views.flat();
  }

  async leaks(functionIds: ReadonlySet<string>): Promise<string[]> {
    const containers = await this.containers();
    const ids = new Set(containers.map(({ Id }) => Id));
    const { Volumes: volumes } = await this.own.docker.listVolumes();
    const used = new Set(containers.flatMap(({ Mounts }) => Mounts.map(({ Name }) => Name)));
    const builds = containers.filter(({ Labels }) => LABEL.layers in Labels);
    const stray = [
      ...containers.filter((one) => !builds.includes(one) && !this.isOfPool(one)),
      ...(await withoutWaiting(builds)),
    ];
    const endpoints = Object.keys((await this.network())?.Containers ?? {});
    return [
      ...stray
        .filter((one) => !functionIds.has(functionIdOf(one) ?? ''))
        .map(({ Id, Names, State }) => `container ${Id.slice(0, 12)} ${Names[0]} (${State}) belongs to no function`),
      ...containers
        .filter(({ State }) => State !== 'running')
        .map(({ Id, Names, State }) => `container ${Id.slice(0, 12)} ${Names[0]} is ${State}`),
      ...volumes
        .filter(({ Name }) => !used.has(Name) && !Name.startsWith(LAYERS) && !this.isClaim(Name, containers))
        .map(({ Name }) => `volume ${Name} belongs to no container`),
      ...endpoints.filter((id) => !ids.has(id)).map((id) => `network endpoint of ${id}, which is gone`),
      ...this.bereft(ids),
    ];
  }

  async close(): Promise<void> {
    if (this.own.forgotten > 0) process.stdout.write(`the engine itself forgot ${this.own.forgotten} containers\n`);
    await this.own.close();
  }

  private isOfPool(container: Docker.ContainerInfo): boolean {
    return LABEL.pool in container.Labels && functionIdOf(container) === undefined;
  }

  /** A claim is right only on a container that serves: one that waits has none. */
  private isClaim(volume: string, containers: readonly Docker.ContainerInfo[]): boolean {
    const owner = containers.find(({ Id }) => volume === CLAIM + Id);
    return owner !== undefined && !this.isOfPool(owner);
  }

  /** Containers that run although the engine knows them no more. */
  private bereft(ids: ReadonlySet<string>): string[] {
    return this.own
      .shims()
      .filter(({ container, inside }) => inside.length > 0 && !ids.has(container))
      .map(({ container }) => `container ${container.slice(0, 12)} runs although it is gone`);
  }

  private async network(): Promise<Docker.NetworkInspectInfo | undefined> {
    try {
      const found: Docker.NetworkInspectInfo = await this.own.docker.getNetwork(NETWORK).inspect();
      return found;
    } catch (error) {
      // The first upload makes it.
      if ((error as { statusCode?: number }).statusCode === 404) return undefined;
      throw error;
    }
  }

  private containers(): Promise<Docker.ContainerInfo[]> {
    return this.own.docker.listContainers({ all: true });
  }

  private async pidOf(id: string): Promise<number> {
    try {
      return (await this.own.docker.getContainer(id).inspect()).State.Pid;
    } catch (error) {
      if ((error as { statusCode?: number }).statusCode === 404) return 0;
      throw error;
    }
  }
}
