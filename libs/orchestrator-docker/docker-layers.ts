import { lookup } from 'node:dns/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { DockerConfig, LayersConfig } from '#libs/config/config.js';
import type { EgressRange } from '#libs/config/egress-range.js';
import { within } from '#libs/deadlines/within.js';
import { BuildCutOff, builtAt, JobNotTaken } from '#libs/orchestrator/build-exchange.js';
import { LONGEST_WAIT_MS, oneTimeToken } from '#libs/orchestrator/generic-worker.js';
import {
  BuildFailed,
  type BuildRequest,
  type Built,
  type LayerEngine,
  tooMuchMemory,
} from '#libs/orchestrator/layers.js';
import { Leaving } from '#libs/orchestrator/leaving.js';
import { WarmPool } from '#libs/orchestrator/warm-pool.js';
import { BuildContainers, type Builder, type BuildPlace, WHEELS_DIR } from './build-containers.js';
import type { DockerEngine } from './docker-engine.js';
import { EngineRefusal, isImageMissing, isMissing } from './engine-fault.js';
import { LABEL } from './labels.js';
import type { LayerVolume } from './layer-volume.js';
import type { Reach } from './reach.js';
import { NetworkUnusable, WorkerNetwork } from './worker-network.js';

const CLEAN_MS = 30_000;
const SWEEP_MS = 60_000;
const PULL_MS = 600_000;
/** Until the engine knows that a container has ended. */
const VERDICT_MS = 2_000;
const LOOK_MS = 50;
/** Whoever has built once is likely to do so again: so long a container waits for the next job. */
const WAITS_MS = 10 * 60_000;
const WAITING = 1;
/** Of one that is started for a job. */
const LEASE_MS = 60_000;

interface OwnNetwork {
  readonly network: WorkerNetwork;
  readonly name: string;
}

/** Builds layers in containers of their own, on a network of their own. */
export class DockerLayers implements LayerEngine {
  private network: Promise<OwnNetwork> | undefined;
  private readonly containers: BuildContainers;
  private readonly waiting: WarmPool<Builder>;
  private readonly leaving = new Leaving();
  /** By its id, which may be another one after every build of the image. */
  private image: string | undefined;
  private hasBuilt = false;
  private isClosed = false;
  private resting: NodeJS.Timeout | undefined;

  constructor(
    private readonly engine: DockerEngine,
    private readonly config: DockerConfig,
    private readonly rules: LayersConfig,
    private readonly owner: string,
    readonly volume: LayerVolume,
    private readonly logger: Logger,
    private readonly pull: (image: string, signal: AbortSignal) => Promise<void>,
    private readonly workersReach: () => Promise<Reach>,
  ) {
    this.containers = new BuildContainers(engine, rules, owner, volume.volume, (signal) => this.place(signal));
    this.waiting = new WarmPool<Builder>(this.containers, WAITING, logger.child({ pool: 'builds' }));
  }

  async platform(signal: AbortSignal): Promise<string> {
    const { image } = this.rules;
    const found = await this.engine.imageId(image, signal);
    if (found !== undefined) return (this.image = found);
    await this.pull(image, AbortSignal.timeout(PULL_MS)).catch((error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error);
      throw new BuildFailed('unavailable', `the image ${image} (BUILDER_IMAGE) is not on the engine: ${reason}`);
    });
    return (this.image = (await this.engine.imageId(image, AbortSignal.timeout(CLEAN_MS))) ?? image);
  }

  async build<T>(
    request: BuildRequest,
    onLine: (line: string) => void,
    keep: (built: Built) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    this.containers.building += 1;
    try {
      return await this.builtByAny(request, onLine, keep, signal);
    } finally {
      this.containers.building -= 1;
    }
  }

  async sweep(kept: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
    const longestMs = 2 * this.rules.timeoutMs + 60_000;
    const ours = [`${LABEL.owner}=${this.owner}`, LABEL.layers];
    for (const { Id: id, Created, Mounts, State } of await this.engine.list(ours, signal)) {
      // One that runs may have waited for its job.
      const ageMs = Date.now() - Created * 1_000 - (State === 'running' ? 2 * LONGEST_WAIT_MS : 0);
      if (ageMs <= longestMs) continue;
      const volume = Mounts.find(({ Name }) => Name?.startsWith(this.containers.prefix) === true)?.Name;
      await this.engine.remove({ id, volume }, true, signal);
    }
    const unused = await this.engine.unusedVolumes(this.containers.prefix, signal);
    for (const volume of unused) await this.engine.removeVolume(volume, signal);
    await this.volume.sweep(kept, signal);
    await this.sweepCache(signal);
  }

  /** Waits for what is being removed. */
  async close(): Promise<void> {
    this.isClosed = true;
    clearTimeout(this.resting);
    await this.waiting.close();
    this.forget();
    await Promise.all([this.leaving.gone(), this.volume.close()]);
  }

  private async builtByAny<T>(
    request: BuildRequest,
    onLine: (line: string) => void,
    keep: (built: Built) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    const waiting = await this.takeWaiting(signal);
    if (waiting !== undefined) {
      try {
        return await this.builtBy(waiting, request, onLine, keep, signal);
      } catch (error) {
        // It had ended since it was last asked after.
        if (!(error instanceof BuildFailed && error.cause instanceof JobNotTaken)) throw error;
      }
    }
    return this.builtBy(await this.started(signal), request, onLine, keep, signal);
  }

  /** Undefined where there is none of the image that layers are built with now. */
  private async takeWaiting(signal: AbortSignal): Promise<Builder | undefined> {
    const waiting = this.waiting.take();
    this.expectMore();
    try {
      // The rules of its network may be lost since it was started.
      if (waiting !== undefined) await this.place(signal);
    } catch (error) {
      this.drop(waiting);
      throw await this.faultOf(error, undefined, signal);
    }
    if (waiting === undefined || waiting.image === (this.image ?? waiting.image)) return waiting;
    this.drop(waiting);
    return undefined;
  }

  /** The one who asked for it need not wait for that. */
  private drop(builder: Builder | undefined): void {
    if (builder !== undefined) this.leaving.add(this.containers.remove(builder));
  }

  private async started(signal: AbortSignal): Promise<Builder> {
    const starting = this.containers.start(oneTimeToken(), signal, LEASE_MS);
    try {
      return await within('a start', { signal }, () => starting);
    } catch (error) {
      // It goes on where nobody waits for it any more.
      this.leaving.add(starting.then((late) => this.containers.remove(late)));
      if (error instanceof EngineRefusal || error instanceof BuildCutOff) this.forget();
      throw await this.faultOf(error, undefined, signal);
    }
  }

  private async builtBy<T>(
    builder: Builder,
    request: BuildRequest,
    onLine: (line: string) => void,
    keep: (built: Built) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    const { rules } = this;
    try {
      this.volume.expect();
      const wheels = rules.wheelsDir === undefined ? undefined : WHEELS_DIR;
      const options = { request, wheels, onLine, rules, hasEnded: builder.isOver };
      return await builtAt(builder.address, builder, options, keep, signal);
    } catch (error) {
      signal.throwIfAborted();
      // The network may have been removed between builds, and an index have another address by now.
      const isLost = error instanceof BuildCutOff && !(error instanceof JobNotTaken);
      if (isLost || (error instanceof BuildFailed && error.fault === 'index')) this.forget();
      throw await this.faultOf(error, builder.id, signal);
    } finally {
      this.hasBuilt = true;
      this.drop(builder);
    }
  }

  private expectMore(): void {
    this.waiting.rest(false);
    this.waiting.start();
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.waiting.rest(true), WAITS_MS).unref();
  }

  private forget(): void {
    void this.network?.then(({ network }) => network.close()).catch(() => undefined);
    this.network = undefined;
  }

  /** Only after builds, which fill it. */
  private async sweepCache(signal: AbortSignal): Promise<void> {
    if (!this.hasBuilt || this.rules.allowSdists) return;
    this.hasBuilt = false;
    const status = await this.containers.sweepCache(SWEEP_MS, signal);
    if (status === 0) return;
    throw new Error(`The builds' cache can't be emptied (status ${status}): is ${this.rules.image} of this release?`);
  }

  private async faultOf(error: unknown, id: string | undefined, signal: AbortSignal): Promise<unknown> {
    if (isImageMissing(error)) return new BuildFailed('unavailable', `The image ${this.rules.image} is missing.`);
    if (error instanceof NetworkUnusable) return new BuildFailed('unavailable', error.message);
    if (!(error instanceof BuildCutOff)) return error;
    const ended = id === undefined ? undefined : await this.endOf(id, signal);
    if (ended?.OOMKilled === true) return tooMuchMemory(this.rules, { cause: error });
    const how =
      ended === undefined ? error.message : `The build ended with status ${ended.ExitCode} and without a result.`;
    return new BuildFailed('unavailable', how, { cause: error });
  }

  /** How a container has ended; undefined where it runs, or nobody knows. */
  private async endOf(id: string, signal: AbortSignal) {
    const until = Date.now() + VERDICT_MS;
    try {
      for (;;) {
        const { State: state } = await this.engine.inspect(id, signal);
        if (!state.Running) return state;
        if (Date.now() > until) return undefined;
        await delay(LOOK_MS, undefined, { signal });
      }
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /** Where the index is reached, and this manager reaches what builds. */
  private async place(signal: AbortSignal): Promise<BuildPlace> {
    if (this.isClosed) throw new BuildFailed('unavailable', 'The engine is closed.');
    this.network ??= this.open().catch((error: unknown) => {
      this.network = undefined;
      throw error;
    });
    const { network, name } = await this.network;
    return { network: name, reach: await within('the network of builds', { signal }, () => network.ready()) };
  }

  private async open(): Promise<OwnNetwork> {
    const config = await buildNetworkOf(this.config, this.rules, await this.workersReach());
    return { network: new WorkerNetwork(this.engine, config, this.logger), name: config.network };
  }
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
