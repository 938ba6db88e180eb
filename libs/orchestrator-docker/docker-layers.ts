import { randomBytes } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import type { ContainerCreateOptions, MountSettings } from 'dockerode';
import type { Logger } from 'pino';
import type { DockerConfig, LayersConfig } from '#libs/config/config.js';
import type { EgressRange } from '#libs/config/egress-range.js';
import { within } from '#libs/deadlines/within.js';
import { BuildCutOff, exchange, type TcpAddress } from '#libs/orchestrator/build-exchange.js';
import { type OneTimeToken, oneTimeToken } from '#libs/orchestrator/generic-worker.js';
import {
  BuildFailed,
  type BuildRequest,
  type Built,
  jobFor,
  type LayerEngine,
  reportIn,
} from '#libs/orchestrator/layers.js';
import { Leaving } from '#libs/orchestrator/leaving.js';
import type { DockerEngine } from './docker-engine.js';
import { isImageMissing } from './engine-fault.js';
import { LABEL } from './labels.js';
import type { LayerVolume } from './layer-volume.js';
import type { Reach } from './reach.js';
import { addressOf, replicaOf, WORKER_PORT } from './replica.js';
import { NetworkUnusable, WorkerNetwork } from './worker-network.js';

const USER = 65_532;
const MIB = 1024 * 1024;
const UV = '/opt/builder/bin/uv';
const WHEELS = '/wheels';
const PORT_KEY = `${WORKER_PORT}/tcp`;
const CLEAN_MS = 30_000;
const SWEEP_MS = 60_000;
const PULL_MS = 600_000;

interface Place {
  readonly network: string;
  readonly reach: Reach;
}

/** Builds layers in containers of their own: on a network of their own, without anything of a function or a manager. */
export class DockerLayers implements LayerEngine {
  private network: Promise<{ readonly network: WorkerNetwork; readonly name: string }> | undefined;
  private readonly leaving = new Leaving();
  private hasBuilt = false;

  constructor(
    private readonly engine: DockerEngine,
    private readonly config: DockerConfig,
    private readonly rules: LayersConfig,
    private readonly owner: string,
    readonly volume: LayerVolume,
    private readonly logger: Logger,
    private readonly pull: (image: string, signal: AbortSignal) => Promise<void>,
    private readonly workersReach: () => Promise<Reach>,
  ) {}

  async platform(signal: AbortSignal): Promise<string> {
    const { image } = this.rules;
    const found = await this.engine.imageId(image, signal);
    if (found !== undefined) return found;
    await this.pull(image, AbortSignal.timeout(PULL_MS)).catch((error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error);
      throw new BuildFailed('unavailable', `the image ${image} (BUILDER_IMAGE) is not on the engine: ${reason}`);
    });
    return (await this.engine.imageId(image, AbortSignal.timeout(CLEAN_MS))) ?? image;
  }

  async build<T>(
    request: BuildRequest,
    onLine: (line: string) => void,
    keep: (built: Built) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    const { rules } = this;
    const name = `${buildPrefix(this.owner)}${randomBytes(8).toString('hex')}`;
    const token = oneTimeToken();
    // Ends the exchange, and with it the build, however this ends.
    const leaving = new AbortController();
    let id: string | undefined;
    try {
      const place = await this.place(signal);
      id = await this.engine.create(name, this.builder(name, token, place), signal);
      const ended = this.watched(id, signal);
      await this.engine.start(id, signal);
      const address = await this.addressOf(id, place, signal);
      this.volume.expect();
      const wheels = rules.wheelsDir === undefined ? undefined : WHEELS;
      const job = jobFor(request, rules, { uv: '', cache: '', wheels });
      const ending = AbortSignal.any([signal, leaving.signal]);
      const { report, lock, archive } = await exchange(address, token, { job, onLine, rules, hasEnded: ended }, ending);
      return await keep({ ...reportIn(report), lock, archive: () => Promise.resolve(archive()) });
    } catch (error) {
      signal.throwIfAborted();
      // The network may have been removed between builds, and an index have another address by now.
      if (!(error instanceof BuildFailed) || error.fault === 'index') this.forget();
      throw await this.faultOf(error, id, signal);
    } finally {
      leaving.abort();
      this.hasBuilt = true;
      // The one who asked for it need not wait for that.
      this.leaving.add(this.clean(id ?? name, name));
    }
  }

  async sweep(kept: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
    const old = Date.now() / 1_000 - (2 * this.rules.timeoutMs) / 1_000 - 60;
    const ours = [`${LABEL.owner}=${this.owner}`, LABEL.layers];
    for (const { Id: id, Created, Mounts } of await this.engine.list(ours, signal)) {
      if (Created >= old) continue;
      const volume = Mounts.find(({ Name }) => Name?.startsWith(buildPrefix(this.owner)) === true)?.Name;
      await this.engine.remove({ id, volume }, true, signal);
    }
    const unused = await this.engine.unusedVolumes(buildPrefix(this.owner), signal);
    for (const volume of unused) await this.engine.removeVolume(volume, signal);
    await this.volume.sweep(kept, signal);
    await this.sweepCache(signal);
  }

  /** Waits for what is being removed. */
  async close(): Promise<void> {
    this.forget();
    await Promise.all([this.leaving.gone(), this.volume.close()]);
  }

  private forget(): void {
    void this.network?.then(({ network }) => network.close()).catch(() => undefined);
    this.network = undefined;
  }

  /** Only after builds, which fill it. uv waits for those that are at work with it. */
  private async sweepCache(signal: AbortSignal): Promise<void> {
    if (!this.hasBuilt || this.rules.allowSdists) return;
    this.hasBuilt = false;
    const config = this.container('none', [this.cacheVolume()], {
      Cmd: ['python3', '-m', 'faas_builder.cache', UV, '/cache', String(this.rules.cacheMiB * MIB)],
    });
    const HostConfig = { ...config.HostConfig, AutoRemove: true };
    const status = await this.engine.runToEnd({ ...config, HostConfig }, SWEEP_MS, signal);
    if (status === 0) return;
    throw new Error(`The builds' cache can't be emptied (status ${status}): is ${this.rules.image} of this release?`);
  }

  /** Whether it has ended. */
  private watched(id: string, signal: AbortSignal): () => boolean {
    let hasEnded = false;
    const ended = this.engine.wait(id, this.rules.timeoutMs + CLEAN_MS, signal);
    ended.catch(() => undefined).finally(() => (hasEnded = true));
    return () => hasEnded;
  }

  private async addressOf(id: string, { network, reach }: Place, signal: AbortSignal): Promise<TcpAddress> {
    const [container] = await this.engine.list([], signal, { id: [id] });
    const address = container && addressOf(replicaOf(container), network, reach);
    if (address?.kind !== 'tcp') throw new BuildCutOff('The container that builds got no address.');
    return address;
  }

  private async faultOf(error: unknown, id: string | undefined, signal: AbortSignal): Promise<unknown> {
    if (isImageMissing(error)) return new BuildFailed('unavailable', `The image ${this.rules.image} is missing.`);
    if (error instanceof NetworkUnusable) return new BuildFailed('unavailable', error.message);
    // The kernel may have ended the build, or a program that uv has started, which is all that uv knows.
    const isUnclear = error instanceof BuildFailed && ['refused', 'unavailable'].includes(error.fault);
    const isCutOff = error instanceof BuildCutOff;
    if (id === undefined || !(isUnclear || isCutOff)) return error;
    const { State: state } = await this.engine.inspect(id, signal);
    if (state.OOMKilled) {
      return new BuildFailed(
        'too_large',
        `The build took more memory than ${this.rules.memoryMiB} MiB (BUILD_MEMORY_MIB).`,
      );
    }
    if (!isCutOff) return error;
    const how = state.Running ? error.message : `The build ended with status ${state.ExitCode} and without a result.`;
    return new BuildFailed('unavailable', how, { cause: error });
  }

  private async clean(idOrName: string, volume: string): Promise<void> {
    const signal = AbortSignal.timeout(CLEAN_MS);
    await this.engine.remove({ id: idOrName, volume }, true, signal);
  }

  /** Where the index is reached, and this manager reaches what builds. */
  private async place(signal: AbortSignal): Promise<Place> {
    this.network ??= this.open().catch((error: unknown) => {
      this.network = undefined;
      throw error;
    });
    const { network, name } = await this.network;
    return { network: name, reach: await within('the network of builds', { signal }, () => network.ready()) };
  }

  private async open(): Promise<{ readonly network: WorkerNetwork; readonly name: string }> {
    const config = await buildNetworkOf(this.config, this.rules, await this.workersReach());
    return { network: new WorkerNetwork(this.engine, config, this.logger), name: config.network };
  }

  private builder(name: string, { sha256 }: OneTimeToken, { network, reach }: Place): ContainerCreateOptions {
    const { wheelsDir, allowSdists } = this.rules;
    const wheels = { Type: 'bind' as const, Source: wheelsDir ?? '', Target: WHEELS, ReadOnly: true };
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
    return this.mount(`${this.volume.volume}-cache`, '/cache');
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

function buildPrefix(owner: string): string {
  return `faas-build-${owner}-`;
}

/**
 * The network of builds as that of workers is configured: closed like it, but for the indexes. Where there is nothing to
 * reach, one without a way out, if whoever builds can be reached there.
 */
export async function buildNetworkOf(
  config: DockerConfig,
  { indexUrl, extraIndexUrls, allowUrls }: Pick<LayersConfig, 'indexUrl' | 'extraIndexUrls' | 'allowUrls'>,
  reach: Reach,
): Promise<DockerConfig> {
  const isOffline = indexUrl === undefined && extraIndexUrls.length === 0 && !allowUrls;
  const internal = isOffline && reach === 'address';
  const network = `${config.network}-build${internal ? '-offline' : ''}`;
  const { firewall } = config;
  const allow = isOffline ? [] : [...firewall.allow, ...(await rangesOf([indexUrl, ...extraIndexUrls]))];
  return { ...config, network, internal, firewall: { ...firewall, allow } };
}

/** Where the hosts of indexes are now, as the firewall has it: a company's own is mostly at a private address. */
async function rangesOf(urls: readonly (string | undefined)[]): Promise<EgressRange[]> {
  const ranges: EgressRange[] = [];
  for (const url of urls) {
    if (url === undefined) continue;
    const { hostname, port, protocol } = new URL(url);
    const found = await lookup(hostname.replace(/^\[|\]$/g, ''), { all: true }).catch(() => []);
    for (const { address, family } of found) {
      const cidr = `${address}/${family === 4 ? 32 : 128}`;
      ranges.push({ family: family === 4 ? 4 : 6, cidr, port: Number(port) || (protocol === 'https:' ? 443 : 80) });
    }
  }
  return ranges;
}
