import { join } from 'node:path';
import type Docker from 'dockerode';
import { LABEL } from '#libs/orchestrator-docker/labels.js';
import { docker, WORKER_IMAGE } from '../../docker/support/docker-tests.js';
import { DockerDaemon } from './docker-daemon.js';
import { processes } from './processes.js';
import type { CrashSite, EngineDaemon, WorkerView } from './site.js';

const NETWORK = 'faas-crash';

/** Workers as containers of an engine that belongs to the suite alone: whatever is on it is the managers' doing. */
export class DockerSite implements CrashSite {
  readonly engine = 'docker';
  readonly env: Readonly<Record<string, string>>;
  readonly daemon: EngineDaemon;

  private constructor(private readonly own: DockerDaemon) {
    this.env = {
      DEPLOYMENT_ENV: 'docker',
      DOCKER_HOST: own.host,
      DOCKER_NETWORK: NETWORK,
      WORKER_IMAGE,
      // The suite of the pool kills managers, too.
      WARM_POOL_SIZE: '0',
    };
    this.daemon = { kill: () => own.kill(), restart: (keepWorkers) => own.start(keepWorkers) };
  }

  static async open(folder: string): Promise<DockerSite> {
    const daemon = new DockerDaemon(join(folder, 'd'));
    try {
      await daemon.start(false);
      await daemon.loadImage(WORKER_IMAGE, docker);
    } catch (error) {
      await daemon.close();
      throw error;
    }
    return new DockerSite(daemon);
  }

  async workers(): Promise<WorkerView[]> {
    const running = (await this.containers()).filter(({ State }) => State === 'running');
    const table = processes();
    const views = await Promise.all(
      running.map(async ({ Id, Labels }) => {
        const pid = await this.pidOf(Id);
        const runners = table.filter(({ parent }) => parent === pid).map((one) => one.pid);
        return pid === 0 ? [] : [{ functionId: Labels[LABEL.functionId] ?? '', replica: Id, pid, runners }];
      }),
    );
    return views.flat();
  }

  async leaks(functionIds: ReadonlySet<string>): Promise<string[]> {
    const containers = await this.containers();
    const ids = new Set(containers.map(({ Id }) => Id));
    const { Volumes: volumes } = await this.own.docker.listVolumes();
    const used = new Set(containers.flatMap(({ Mounts }) => Mounts.map(({ Name }) => Name)));
    const endpoints = Object.keys((await this.network())?.Containers ?? {});
    return [
      ...containers
        .filter(({ Labels }) => !functionIds.has(Labels[LABEL.functionId] ?? ''))
        .map(({ Id, Names, State }) => `container ${Id.slice(0, 12)} ${Names[0]} (${State}) belongs to no function`),
      ...containers
        .filter(({ State }) => State !== 'running')
        .map(({ Id, Names, State }) => `container ${Id.slice(0, 12)} ${Names[0]} is ${State}`),
      ...volumes.filter(({ Name }) => !used.has(Name)).map(({ Name }) => `volume ${Name} belongs to no container`),
      ...endpoints.filter((id) => !ids.has(id)).map((id) => `network endpoint of ${id}, which is gone`),
      ...this.bereft(ids),
    ];
  }

  async close(): Promise<void> {
    if (this.own.forgotten > 0) process.stdout.write(`the engine itself forgot ${this.own.forgotten} containers\n`);
    await this.own.close();
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
