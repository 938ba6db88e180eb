import type { Readable } from 'node:stream';
import type { LayersConfig } from '#libs/config/config.js';

/**
 * Packages that a function's code imports, built once and shared by all that ask for the same: a folder that workers
 * read and nobody writes, named by a digest of its lock, Python and machine.
 */
export interface Layer {
  /** 64 lower-case hexadecimal digits. */
  readonly digest: string;
  /** Its archive (tar), for an engine that hasn't unpacked it or has lost it. Rejects when there is none any more. */
  readonly open: (signal: AbortSignal) => Promise<Readable>;
  /** What that archive is, for whoever gets it from elsewhere. Rejects likewise. */
  readonly describe: (signal: AbortSignal) => Promise<LayerArchive>;
}

/** What a layer's archive must be when it arrives. */
export interface LayerArchive {
  /** Of the archive, in lower-case hexadecimal. */
  readonly sha256: string;
  /** Of its files. */
  readonly bytes: number;
  readonly files: number;
}

/** A layer that its worker fetches itself. */
export interface FetchedLayer extends LayerArchive {
  readonly digest: string;
  readonly url: string;
  /** Opens this layer alone. */
  readonly token: string;
}

/** What is to be built. */
export interface BuildRequest {
  /** Lines of a requirements file, checked: names, versions, markers and hashes. */
  readonly requirements: string;
  /** They are a lock: each pinned and with hashes. */
  readonly isLock: boolean;
  /** Which Pythons the code says that it runs with (PEP 440); empty: any. */
  readonly requiresPython: string;
}

/** What came of it; the archive can be read as long as its reader works. */
export interface Built {
  readonly lock: string;
  /** Such as `cpython-3.13`. */
  readonly python: string;
  /** Such as `x86_64-glibc`. */
  readonly machine: string;
  readonly bytes: number;
  readonly files: number;
  readonly archive: () => Promise<Readable>;
}

/**
 * `refused`: what was asked for can't be had. `too_large`, `timed_out`: it takes more than there may be. `index`: the
 * index can't be reached, or has answered wrongly. `unavailable`: nothing can be built here just now.
 */
export type BuildFault = 'refused' | 'too_large' | 'timed_out' | 'index' | 'unavailable';

export class BuildFailed extends Error {
  constructor(
    readonly fault: BuildFault,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = 'BuildFailed';
  }
}

/** The part of an engine that builds layers, each in a worker of its own, and keeps them where workers read them. */
export interface LayerEngine {
  /** Names what layers are built for, as far as it is known before: another one has others. */
  platform(signal: AbortSignal): Promise<string>;

  /**
   * Builds, calls `keep` with what came of it, and has what is left of it removed, whatever becomes of either: soon, or
   * when the engine is closed. Throws {@link BuildFailed}.
   *
   * @param onLine told of what is printed meanwhile
   */
  build<T>(
    request: BuildRequest,
    onLine: (line: string) => void,
    keep: (built: Built) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T>;

  /** Removes what is left of builds, and unpacked layers that aren't among these. */
  sweep(kept: ReadonlySet<string>, signal: AbortSignal): Promise<void>;
}

/** How a build ended, as the builder has written it down. */
export type BuildReport =
  | {
      readonly status: 'built';
      readonly python: string;
      readonly machine: string;
      readonly bytes: number;
      readonly files: number;
    }
  | { readonly status: 'failed'; readonly kind: string; readonly message: string };

const MIB = 1024 * 1024;
const LONGEST_MESSAGE = 8_000;

export function tooMuchMemory({ memoryMiB }: Pick<LayersConfig, 'memoryMiB'>, options?: ErrorOptions): BuildFailed {
  return new BuildFailed('too_large', `The build took more memory than ${memoryMiB} MiB (BUILD_MEMORY_MIB).`, options);
}

/** Reads the builder's report, which code of a source distribution may have written in its place. */
export function reportIn(
  text: string,
  rules: Pick<LayersConfig, 'memoryMiB'>,
): Extract<BuildReport, { status: 'built' }> {
  const report = JSON.parse(text) as Partial<Record<string, unknown>>;
  const word = (name: string) => {
    const said = report[name];
    return typeof said === 'string' ? said.slice(0, LONGEST_MESSAGE) : '';
  };
  const count = (name: string) => (Number.isSafeInteger(report[name]) ? (report[name] as number) : 0);
  if (report['status'] === 'built') {
    const [python, machine] = [word('python').slice(0, 40), word('machine').slice(0, 40)];
    return { status: 'built', python, machine, bytes: count('bytes'), files: count('files') };
  }
  switch (word('kind')) {
    case 'refused':
      throw new BuildFailed('refused', word('message'));
    case 'too_large':
      throw new BuildFailed('too_large', word('message'));
    case 'out_of_memory':
      throw tooMuchMemory(rules);
    case 'index':
      throw new BuildFailed('index', word('message'));
    case 'no_space':
      throw new BuildFailed('unavailable', `There is no space left to build in: ${word('message')}`);
    default:
      throw new BuildFailed('unavailable', `The build failed: ${word('message')}`);
  }
}

/** What the builder is told (`apps/worker/faas_builder/job.py`); one that is asked over HTTP knows the first two itself. */
export interface BuildPlaces {
  readonly uv: string;
  readonly cache: string;
  readonly wheels: string | undefined;
  /** The builder sees to it by itself; undefined: its container does. */
  readonly memoryMiB?: number | undefined;
}

export interface BuildRules {
  readonly indexUrl: string | undefined;
  readonly extraIndexUrls: readonly string[];
  readonly allowSdists: boolean;
  readonly largestMiB: number;
  readonly mostFiles: number;
  readonly timeoutMs: number;
}

export function jobFor(request: BuildRequest, rules: BuildRules, places: BuildPlaces): string {
  const { uv, cache, wheels, memoryMiB } = places;
  return JSON.stringify({
    requirements: request.requirements,
    is_lock: request.isLock,
    requires_python: request.requiresPython,
    uv,
    cache,
    index_url: rules.indexUrl ?? null,
    extra_index_urls: rules.extraIndexUrls,
    wheels: wheels ?? null,
    allow_sdists: rules.allowSdists,
    most_bytes: rules.largestMiB * MIB,
    most_files: rules.mostFiles,
    seconds: Math.ceil(rules.timeoutMs / 1_000) + 1,
    ...(memoryMiB !== undefined && { most_memory: memoryMiB * MIB }),
  });
}

/** Its header and what fills its last block, and a name that is too long for them. */
const ENTRY_BYTES = 4_096;

/** The most bytes that a layer's archive may have: its files, and what an entry takes beside. */
export function largestArchive({ largestMiB, mostFiles }: Pick<LayersConfig, 'largestMiB' | 'mostFiles'>): number {
  return largestMiB * MIB + mostFiles * ENTRY_BYTES;
}

const UNPACKING_MS = 90_000;
/** What a slow disk writes in a second. */
const LEAST_BYTES_PER_S = 4 * MIB;

/** How long it may take to unpack the largest layer, in milliseconds. */
export function longestUnpackingMs(limits: Pick<LayersConfig, 'largestMiB' | 'mostFiles'>): number {
  return UNPACKING_MS + Math.ceil((largestArchive(limits) / LEAST_BYTES_PER_S) * 1_000);
}
