import { randomBytes } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import type { ContainerCreateOptions, MountSettings } from 'dockerode';
import type { Logger } from 'pino';
import { extract, pack } from 'tar-stream';
import type { DockerConfig, LayersConfig } from '#libs/config/config.js';
import type { EgressRange } from '#libs/config/egress-range.js';
import { DeadlinePassed, within } from '#libs/deadlines/within.js';
import {
  BUILD_FOLDERS,
  BUILT_ARCHIVE,
  BUILT_LINE,
  BuildFailed,
  type BuildRequest,
  type Built,
  jobFor,
  largestArchive,
  type LayerEngine,
  reportIn,
} from '#libs/orchestrator/layers.js';
import { buffer } from 'node:stream/consumers';
import { Leaving } from '#libs/orchestrator/leaving.js';
import type { DockerEngine } from './docker-engine.js';
import { EngineRefusal, isImageMissing } from './engine-fault.js';
import { LABEL } from './labels.js';
import type { LayerVolume } from './layer-volume.js';
import { LogFrames } from './log-frames.js';
import { NetworkUnusable, WorkerNetwork } from './worker-network.js';

const USER = 65_532;
const MIB = 1024 * 1024;
const UV = '/opt/builder/bin/uv';
const CLEAN_MS = 30_000;
const SWEEP_MS = 60_000;
const PULL_MS = 600_000;
/** Of a report or a lock. */
const LARGEST_TEXT = 4 * MIB;
const UNKNOWN = 'The build left something else than what it is for.';

type Entry = Readable & { readonly header: { readonly name: string; readonly type: string; readonly size: number } };

/** Builds layers in containers of their own: on a network of their own, without anything of a function or a manager. */
export class DockerLayers implements LayerEngine {
  private network: Promise<WorkerNetwork | undefined> | undefined;
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
    const name = `${buildPrefix(this.owner)}${randomBytes(8).toString('hex')}`;
    let id: string | undefined;
    let archive: Readable | undefined;
    try {
      id = await this.engine.create(name, this.builder(name, await this.place(signal)), signal);
      await this.engine.putArchive(id, '/build', await this.job(request), signal);
      const ended = this.engine.wait(id, this.rules.timeoutMs + CLEAN_MS, signal);
      ended.catch(() => undefined);
      await this.run(id, ended, onLine, signal);
      archive = await this.engine.getArchive(id, '/build/out', signal);
      const outcome = await this.outcome(id, ended, new Outputs(archive), signal);
      return await keep(outcome);
    } catch (error) {
      if (isImageMissing(error)) throw new BuildFailed('unavailable', `The image ${this.rules.image} is missing.`);
      // The network may have been removed between builds, and an index have another address by now.
      if (error instanceof EngineRefusal || (error instanceof BuildFailed && error.fault === 'index')) this.forget();
      if (error instanceof NetworkUnusable) throw new BuildFailed('unavailable', error.message);
      throw error;
    } finally {
      archive?.destroy();
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
    void this.network?.then((network) => network?.close()).catch(() => undefined);
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

  /** Until all is built: the engine takes a while to end a container. */
  private async run(
    id: string,
    ended: Promise<number>,
    onLine: (line: string) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const { timeoutMs } = this.rules;
    const over = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    await this.engine.start(id, signal);
    const following = new AbortController();
    const { promise: built, resolve } = Promise.withResolvers<void>();
    const note = (line: string) => {
      onLine(line);
      if (line === BUILT_LINE) resolve();
    };
    void this.follow(id, note, following.signal).catch(() => undefined);
    try {
      await within('a build', { signal: over }, () => Promise.race([ended, built]));
    } catch (error) {
      signal.throwIfAborted();
      if (!over.aborted && !(error instanceof DeadlinePassed)) throw error;
      throw new BuildFailed('timed_out', `The build took longer than ${timeoutMs} ms (BUILD_TIMEOUT_MS).`);
    } finally {
      following.abort();
    }
  }

  private async follow(id: string, onLine: (line: string) => void, signal: AbortSignal): Promise<void> {
    const frames = new LogFrames();
    const stream = await this.engine.logStream(id, { tail: 100, follow: true }, signal);
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      for (const line of frames.push(chunk)) onLine(line.text);
    }
  }

  private async outcome(id: string, ended: Promise<number>, outputs: Outputs, signal: AbortSignal): Promise<Built> {
    try {
      const lock = await outputs.text('lock.txt');
      const result = await outputs.text('result.json');
      if (result === undefined) {
        throw new BuildFailed('unavailable', `The build ended with status ${await ended} alone.`);
      }
      const archive = () => outputs.file(BUILT_ARCHIVE, largestArchive(this.rules));
      return { ...reportIn(result), lock: lock ?? '', archive };
    } catch (error) {
      // The kernel may have ended the build, or a program that uv has started, which is all that uv knows.
      const isUnclear = error instanceof BuildFailed && ['refused', 'unavailable'].includes(error.fault);
      if (!isUnclear || !(await this.engine.hasRunOutOfMemory(id, signal))) throw error;
      const most = `${this.rules.memoryMiB} MiB (BUILD_MEMORY_MIB)`;
      throw new BuildFailed('too_large', `The build took more memory than ${most}.`);
    }
  }

  private async clean(idOrName: string, volume: string): Promise<void> {
    const signal = AbortSignal.timeout(CLEAN_MS);
    await this.engine.remove({ id: idOrName, volume }, true, signal);
  }

  /** Where the index is reached; nowhere where there is none. */
  private async place(signal: AbortSignal): Promise<string> {
    this.network ??= this.open().catch((error: unknown) => {
      this.network = undefined;
      throw error;
    });
    const network = await this.network;
    if (network === undefined) return 'none';
    await within('the network of builds', { signal }, () => network.ready());
    return networkOf(this.config);
  }

  private async open(): Promise<WorkerNetwork | undefined> {
    const own = await buildNetworkOf(this.config, this.rules);
    return own && new WorkerNetwork(this.engine, own, this.logger);
  }

  private builder(name: string, network: string): ContainerCreateOptions {
    const { wheelsDir, allowSdists } = this.rules;
    const wheels = { Type: 'bind' as const, Source: wheelsDir ?? '', Target: '/wheels', ReadOnly: true };
    const mounts = [
      this.mount(name, '/build'),
      // Code of a source distribution could put other packages there for the next builds.
      ...(allowSdists ? [] : [this.cacheVolume()]),
      ...(wheelsDir === undefined ? [] : [wheels]),
    ];
    return this.container(network, mounts, {
      Cmd: ['python3', '-m', 'faas_builder', '/build'],
      Env: ['HOME=/build/tmp', 'TMPDIR=/build/tmp'],
    });
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

  private async job(request: BuildRequest): Promise<Buffer> {
    const cache = this.rules.allowSdists ? '/build/cache' : '/cache';
    const wheels = this.rules.wheelsDir === undefined ? undefined : '/wheels';
    const job = jobFor(request, this.rules, { uv: UV, cache, wheels });
    const archive = pack();
    const own = { uid: USER, gid: USER, mtime: new Date() };
    for (const name of [...BUILD_FOLDERS, 'cache']) archive.entry({ ...own, name, type: 'directory', mode: 0o700 });
    archive.entry({ ...own, name: 'in/job.json', mode: 0o600 }, job);
    archive.finalize();
    return buffer(archive);
  }
}

function buildPrefix(owner: string): string {
  return `faas-build-${owner}-`;
}

function networkOf({ network }: Pick<DockerConfig, 'network'>): string {
  return `${network}-build`;
}

/**
 * The network of builds as that of workers is configured: closed like it, but for the indexes. Undefined where there is
 * nothing to reach.
 */
export async function buildNetworkOf(
  config: DockerConfig,
  { indexUrl, extraIndexUrls, allowUrls }: Pick<LayersConfig, 'indexUrl' | 'extraIndexUrls' | 'allowUrls'>,
): Promise<DockerConfig | undefined> {
  if (indexUrl === undefined && extraIndexUrls.length === 0 && !allowUrls) return undefined;
  const { firewall } = config;
  const allow = [...firewall.allow, ...(await rangesOf([indexUrl, ...extraIndexUrls]))];
  return { ...config, network: networkOf(config), internal: false, firewall: { ...firewall, allow } };
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

/** The files of the folder that a build leaves, in the order of their names: each is read on the way to the next. */
class Outputs {
  private readonly entries: AsyncIterator<Entry, undefined>;
  private next: Promise<Entry | undefined>;

  constructor(archive: Readable) {
    const entries = extract();
    archive.once('error', (error: Error) => entries.destroy(error));
    archive.pipe(entries);
    this.entries = entries[Symbol.asyncIterator]() as AsyncIterator<Entry, undefined>;
    // The folder itself comes before what is in it.
    this.next = this.entry().then((folder) => (folder?.resume(), this.entry()));
    this.next.catch(() => undefined);
  }

  /** Undefined where there is none of this name. */
  async text(name: string): Promise<string | undefined> {
    const file = await this.take(name, LARGEST_TEXT);
    return file && text(file);
  }

  async file(name: string, most: number): Promise<Readable> {
    const file = await this.take(name, most);
    if (file === undefined) throw new BuildFailed('unavailable', UNKNOWN);
    return file;
  }

  private async take(name: string, most: number): Promise<Readable | undefined> {
    const entry = await this.next;
    if (entry?.header.name !== `out/${name}`) return undefined;
    if (entry.header.type !== 'file' || entry.header.size > most) throw new BuildFailed('unavailable', UNKNOWN);
    // Reached once this one has been read.
    this.next = this.entry();
    this.next.catch(() => undefined);
    return entry;
  }

  private async entry(): Promise<Entry | undefined> {
    return (await this.entries.next()).value;
  }
}
