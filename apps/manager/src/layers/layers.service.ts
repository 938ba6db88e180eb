import type { LayersConfig } from '#libs/config/config.js';
import { LAYERS_CONFIG } from '#libs/config/config.module.js';
import { AppError } from '#libs/errors/app-error.js';
import type { BuildRequest, Layer, LayerArchive, LayerEngine } from '#libs/orchestrator/layers.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { Inject, Injectable } from '@nestjs/common';
import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { BuildUnavailable, RequirementsNotInstallable, RequirementsUnsupported } from './errors.js';
import { LAYER_FORMAT, LayerBuilder } from './layer-builder.js';
import { archiveOf } from './layer-pieces.js';
import { type BuildRow, LayerRepository, type LayerRow } from './layer.repository.js';
import type { Requirements } from './requirements.js';

/** The same requirements are looked up in the index again after this long; revisions keep what they have. */
const LOOKED_UP_MS = 60 * 60_000;
const LOOK_MS = 150;
/** Beyond the build itself: for a place to build in, and for keeping what was built. */
const MARGIN_MS = 60_000;
/** Requests that a manager lets wait: each keeps its file in memory. */
const MOST_WAITING = 16;
const PLATFORM_MS = 30_000;

/** Requirements that are to be had, and by which key they are found. */
export interface Wanted {
  readonly key: string;
  readonly request: BuildRequest;
  /** There is a layer of them already. */
  readonly digest: string | undefined;
}

/** The packages of functions: requirements → lock → layer, each built once for all who ask for the same. */
@Injectable()
export class LayersService {
  private waiting = 0;

  constructor(
    private readonly layers: LayerRepository,
    private readonly builder: LayerBuilder,
    private readonly orchestrator: Orchestrator,
    @Inject(LAYERS_CONFIG) private readonly config: LayersConfig,
  ) {}

  /** Requirements may name URLs. */
  get allowsUrls(): boolean {
    return this.config.allowUrls;
  }

  /** How long a build may take, from asking for it until it is kept. */
  get longestMs(): number {
    return this.config.timeoutMs + MARGIN_MS;
  }

  /** Whether there is a layer of these. Throws {@link RequirementsUnsupported}. */
  async look({ lines, isLock, requiresPython }: Requirements): Promise<Wanted> {
    const engine = this.engine();
    const request = { requirements: lines, isLock, requiresPython };
    const platform = await engine.platform(AbortSignal.timeout(PLATFORM_MS)).catch((error: unknown) => {
      throw error instanceof AppError ? error : new BuildUnavailable(`Nothing can be built: ${textOf(error)}`, error);
    });
    const { indexUrl, extraIndexUrls, wheelsDir, allowSdists } = this.config;
    const indexes = [indexUrl, ...extraIndexUrls].map((url) => url && withoutLogin(url));
    const what = [LAYER_FORMAT, request, indexes, wheelsDir, allowSdists, platform];
    const key = createHash('sha256').update(JSON.stringify(what)).digest('hex');
    return { key, request, digest: await this.layers.ready(key, validMs(request)) };
  }

  /**
   * The digest of their layer, built here or by whoever builds it already. Throws {@link RequirementsNotInstallable} or
   * {@link BuildUnavailable}.
   */
  async obtain({ key, request, digest }: Wanted): Promise<string> {
    if (digest !== undefined) return digest;
    const engine = this.engine();
    if (this.waiting >= MOST_WAITING) throw new BuildUnavailable(`${MOST_WAITING} builds are waited for already.`);
    using _waiting = this.wait();
    const deadline = Date.now() + this.longestMs;
    // What failed before this was asked for is tried again.
    let isAwaited = false;
    while (Date.now() < deadline) {
      const build = await this.layers.build(key);
      const isUnderWay = build?.state === 'building' && !build.isAbandoned;
      if (isAwaited && build !== undefined && build.state !== 'building') return outcomeOf(build);
      if (!isUnderWay) {
        // Somebody may have built it since it was looked for.
        const built = build?.state === 'ready' ? await this.layers.ready(key, validMs(request)) : undefined;
        if (built !== undefined) return built;
        using begun = await this.builder.begin(key, validMs(request));
        // Waiting for a place costs the build nothing of its own time.
        if (begun?.isOurs === true) {
          return await this.builder.build(begun, request, engine, Date.now() + this.longestMs);
        }
      }
      isAwaited ||= isUnderWay;
      await delay(LOOK_MS);
    }
    throw new BuildUnavailable(`The packages were not there within ${this.longestMs} ms.`);
  }

  private wait(): Disposable {
    this.waiting += 1;
    return { [Symbol.dispose]: () => void (this.waiting -= 1) };
  }

  find(digest: string): Promise<LayerRow | undefined> {
    return this.layers.find(digest);
  }

  progress(key: string): Promise<BuildRow | undefined> {
    return this.layers.build(key);
  }

  /** As the engine gets it. */
  layer(digest: string): Layer {
    return {
      digest,
      open: (signal) => this.open(digest, signal),
      describe: (signal) => this.describe(digest, signal),
    };
  }

  private async describe(digest: string, signal: AbortSignal): Promise<LayerArchive> {
    // Asked each time: one that was collected and built anew has the same digest, and another archive.
    const row = await this.layers.find(digest);
    if (row === undefined) throw missing(digest);
    const sha256 = row.archiveSha256 ?? (await this.digestOf(digest, signal));
    return { sha256, bytes: row.bytes, files: row.files };
  }

  /** Of a layer that is older than the question. */
  private async digestOf(digest: string, signal: AbortSignal): Promise<string> {
    const hash = createHash('sha256');
    for await (const chunk of (await this.open(digest, signal)) as AsyncIterable<Buffer>) hash.update(chunk);
    const sha256 = hash.digest('hex');
    await this.layers.noteArchive(digest, sha256);
    return sha256;
  }

  private async open(digest: string, signal: AbortSignal): Promise<Readable> {
    const first = await this.layers.part(digest, 0);
    if (first === undefined) throw missing(digest);
    const { layers } = this;
    async function* pieces(): AsyncGenerator<Buffer> {
      for (let number = 0; ; number += 1) {
        signal.throwIfAborted();
        const part = number === 0 ? first : await layers.part(digest, number);
        if (part === undefined) return;
        yield part;
      }
    }
    return archiveOf(pieces());
  }

  private engine(): LayerEngine {
    const { layers, engine, capabilities } = this.orchestrator;
    if (layers === undefined) throw new RequirementsUnsupported(engine, capabilities.buildsNoLayers);
    return layers;
  }
}

function missing(digest: string): Error {
  return new Error(`The layer ${digest} is not in the database.`);
}

/** What a lock says doesn't change. */
function validMs({ isLock }: BuildRequest): number | null {
  return isLock ? null : LOOKED_UP_MS;
}

/** Of a build that somebody else has made. */
function outcomeOf({ digest, error }: BuildRow): string {
  if (digest !== null) return digest;
  const { code, message } = error ?? { code: 'build_unavailable', message: 'The build has ended without a result.' };
  throw code === 'requirements_not_installable'
    ? new RequirementsNotInstallable(message)
    : new BuildUnavailable(message);
}

function withoutLogin(url: string): string {
  const bare = new URL(url);
  bare.username = bare.password = '';
  return bare.href;
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
