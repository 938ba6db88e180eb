import { randomBytes } from 'node:crypto';
import type { ContainerCreateOptions, MountSettings } from 'dockerode';
import type { LayersConfig } from '#libs/config/config.js';
import { BuildCutOff, type TcpAddress } from '#libs/orchestrator/build-exchange.js';
import { LONGEST_WAIT_MS, type OneTimeToken } from '#libs/orchestrator/generic-worker.js';
import { roomIn } from '#libs/orchestrator/pool-target.js';
import type { PoolMember, PoolSource } from '#libs/orchestrator/warm-pool.js';
import type { DockerEngine } from './docker-engine.js';
import { LABEL } from './labels.js';
import type { Reach } from './reach.js';
import { addressOf, replicaOf, WORKER_PORT } from './replica.js';

const USER = 65_532;
const MIB = 1024 * 1024;
const UV = '/opt/builder/bin/uv';
const PORT_KEY = `${WORKER_PORT}/tcp`;
const REMOVE_MS = 30_000;
const START_MS = 60_000;

/** Where builds find the wheels of a folder. */
export const WHEELS_DIR = '/wheels';

/** Where the index is reached, and this manager reaches what builds. */
export interface BuildPlace {
  readonly network: string;
  readonly reach: Reach;
}

/** A container that takes one job. */
export interface Builder extends PoolMember {
  readonly address: TcpAddress;
  readonly volume: string;
  /** The id of its image. */
  readonly image: string;
  readonly isOver: () => boolean;
}

/** The containers of builds: each takes one job, and has nothing of a function or a manager. */
export class BuildContainers implements PoolSource<Builder> {
  /** Jobs under way, with their cleaning up. */
  building = 0;

  constructor(
    private readonly engine: DockerEngine,
    private readonly rules: LayersConfig,
    private readonly owner: string,
    private readonly layersVolume: string,
    private readonly place: (signal: AbortSignal) => Promise<BuildPlace>,
  ) {}

  /** What names of containers and volumes of builds begin with. */
  get prefix(): string {
    return `faas-build-${this.owner}-`;
  }

  /** Those that are to wait start when nobody waits for one that works. */
  get mustWait(): boolean {
    return this.building > 0;
  }

  /** It ends by itself where it gets no job and nobody asks after it. */
  async start({ token, sha256 }: OneTimeToken, closing: AbortSignal, leaseMs: number): Promise<Builder> {
    closing.throwIfAborted();
    // Not ended half way: the engine would go on making a container whose id nobody is told.
    const signal = AbortSignal.timeout(START_MS);
    const place = await this.place(signal);
    const name = `${this.prefix}${randomBytes(8).toString('hex')}`;
    try {
      const id = await this.engine.create(name, this.builder(name, sha256, leaseMs, place), signal);
      const isOver = this.watched(id);
      await this.engine.start(id, signal);
      const [container] = await this.engine.list([], signal, { id: [id] });
      const address = container && addressOf(replicaOf(container), place.network, place.reach);
      if (container === undefined || address?.kind !== 'tcp')
        throw new BuildCutOff('The container that builds got no address.');
      return {
        id,
        address,
        token,
        call: { credential: '', token, sha256 },
        volume: name,
        image: container.ImageID,
        isOver,
      };
    } catch (error) {
      await this.remove({ id: name, volume: name }).catch(() => undefined);
      throw error;
    }
  }

  async remove({ id, volume }: Pick<Builder, 'id' | 'volume'>): Promise<void> {
    await this.engine.remove({ id, volume }, true, AbortSignal.timeout(REMOVE_MS));
  }

  hasEnded({ isOver }: Builder): Promise<boolean> {
    return Promise.resolve(isOver());
  }

  async room(members: number): Promise<number> {
    return roomIn(await this.engine.freeBytes(AbortSignal.timeout(REMOVE_MS)), members);
  }

  /** Empties the builds' cache down to what it may take. uv waits for those that are at work with it. */
  sweepCache(timeoutMs: number, signal: AbortSignal): Promise<number> {
    const config = this.container('none', [this.cacheVolume()], {
      Cmd: ['python3', '-m', 'faas_builder.cache', UV, '/cache', String(this.rules.cacheMiB * MIB)],
    });
    const HostConfig = { ...config.HostConfig, AutoRemove: true };
    return this.engine.runToEnd({ ...config, HostConfig }, timeoutMs, signal);
  }

  private watched(id: string): () => boolean {
    let isOver = false;
    const longestMs = LONGEST_WAIT_MS + this.rules.timeoutMs + REMOVE_MS;
    const ended = this.engine.wait(id, longestMs, new AbortController().signal);
    ended.catch(() => undefined).finally(() => (isOver = true));
    return () => isOver;
  }

  private builder(
    name: string,
    sha256: string,
    leaseMs: number,
    { network, reach }: BuildPlace,
  ): ContainerCreateOptions {
    const { wheelsDir, allowSdists } = this.rules;
    const wheels = { Type: 'bind' as const, Source: wheelsDir ?? '', Target: WHEELS_DIR, ReadOnly: true };
    const mounts = [
      this.mount(name, '/build'),
      // Code of a source distribution could put other packages there for the next builds.
      ...(allowSdists ? [] : [this.cacheVolume()]),
      ...(wheelsDir === undefined ? [] : [wheels]),
    ];
    const { HostConfig, ...config } = this.container(network, mounts, {
      Cmd: ['python3', '-m', 'faas_builder.server', '/build'],
      Env: [
        'HOME=/build/tmp',
        'TMPDIR=/build/tmp',
        `FAAS_BUILD_SHA256=${sha256}`,
        `FAAS_BUILD_LEASE_SECONDS=${Math.ceil(leaseMs / 1_000)}`,
        ...(allowSdists ? [] : ['FAAS_CACHE=/cache']),
      ],
    });
    return {
      ...config,
      ExposedPorts: { [PORT_KEY]: {} },
      HostConfig: {
        ...HostConfig,
        PortBindings: reach === 'published' ? { [PORT_KEY]: [{ HostIp: '127.0.0.1', HostPort: '' }] } : {},
      },
    };
  }

  private cacheVolume(): MountSettings {
    return this.mount(`${this.layersVolume}-cache`, '/cache');
  }

  private mount(Source: string, Target: string): MountSettings {
    const VolumeOptions = {
      NoCopy: false,
      Labels: { [LABEL.owner]: this.owner },
      DriverConfig: { Name: '', Options: {} },
    };
    return { Type: 'volume', Source, Target, ReadOnly: false, VolumeOptions };
  }

  private container(
    network: string,
    mounts: MountSettings[],
    config: Pick<ContainerCreateOptions, 'Cmd' | 'Env'>,
  ): ContainerCreateOptions {
    const { image, memoryMiB } = this.rules;
    return {
      Image: image,
      User: `${USER}:${USER}`,
      ...config,
      Labels: { [LABEL.owner]: this.owner, [LABEL.layers]: 'build' },
      StopTimeout: 1,
      HostConfig: {
        // Reaps what source distributions leave behind.
        Init: true,
        NetworkMode: network,
        ReadonlyRootfs: true,
        CapDrop: ['ALL'],
        SecurityOpt: ['no-new-privileges'],
        IpcMode: 'private',
        Tmpfs: { '/tmp': 'rw,noexec,nosuid,nodev,size=64m,mode=1777' },
        Memory: memoryMiB * MIB,
        MemorySwap: memoryMiB * MIB,
        PidsLimit: 256,
        Ulimits: [{ Name: 'core', Soft: 0, Hard: 0 }],
        RestartPolicy: { Name: 'no' },
        LogConfig: { Type: 'json-file', Config: { 'max-size': '2m', 'max-file': '1' } },
        Mounts: mounts,
      },
    };
  }
}
