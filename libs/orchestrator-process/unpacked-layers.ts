import { randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { chmod, mkdir, readdir, rename, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { LayersConfig } from '#libs/config/config.js';
import { within } from '#libs/deadlines/within.js';
import { layerEntries } from '#libs/orchestrator/layer-archive.js';
import { type Layer, longestUnpackingMs } from '#libs/orchestrator/layers.js';
import { removeTrees } from './clean-up.js';

const SMALL_BYTES = 256 * 1024;
const MOST_AT_ONCE = 16;
const DRAFT = '.in-';
const GONE = '.gone-';
/** Longer than a layer that was made just now takes to be in the list of those that are kept. */
const YOUNG_MS = 10 * 60_000;

/**
 * Layers as folders of this machine that all workers may read. Workers find those whose names they are told; the folder
 * above can't be listed.
 */
export class UnpackedLayers {
  private readonly unpacking = new Map<string, Promise<void>>();
  private readonly longestMs: number;

  constructor(
    private readonly folder: string,
    private readonly limits: Pick<LayersConfig, 'largestMiB' | 'mostFiles'>,
  ) {
    this.longestMs = longestUnpackingMs(limits);
  }

  pathOf(digest: string): string {
    return join(this.folder, digest);
  }

  /** Unpacks it unless it is there. Looks each time: somebody may have removed it. */
  async ready(layer: Layer, signal: AbortSignal): Promise<void> {
    if (await isThere(this.pathOf(layer.digest))) return;
    const work = this.unpacking.get(layer.digest) ?? this.begin(layer);
    await within('unpacking a layer', { signal }, () => work);
  }

  /** Whoever waits for it may stop, and find it there the next time: a large layer takes longer than a step may. */
  private begin(layer: Layer): Promise<void> {
    const work = this.unpack(layer, AbortSignal.timeout(this.longestMs)).finally(() =>
      this.unpacking.delete(layer.digest),
    );
    work.catch(() => undefined);
    this.unpacking.set(layer.digest, work);
    return work;
  }

  /** Removes those that aren't kept, and what a manager that was killed has left half unpacked. */
  async sweep(kept: ReadonlySet<string>): Promise<void> {
    const names = await readdir(this.folder).catch(() => []);
    const gone: string[] = [];
    for (const name of names) {
      const path = join(this.folder, name);
      const found = kept.has(name) ? undefined : await stat(path).catch(() => undefined);
      if (found === undefined || Date.now() - found.ctimeMs <= YOUNG_MS + this.longestMs) continue;
      // Half of a layer must never be found under its name.
      const aside = join(this.folder, `${GONE}${randomBytes(6).toString('hex')}`);
      gone.push(
        await rename(path, aside).then(
          () => aside,
          () => path,
        ),
      );
    }
    await removeTrees(gone);
  }

  private async unpack(layer: Layer, signal: AbortSignal): Promise<void> {
    await mkdir(this.folder, { recursive: true, mode: 0o711 });
    await chmod(this.folder, 0o711);
    const draft = join(this.folder, `${DRAFT}${randomBytes(6).toString('hex')}`);
    try {
      await mkdir(draft, { mode: 0o755 });
      await this.fill(draft, layer, signal);
      await rename(draft, this.pathOf(layer.digest));
    } catch (error) {
      await removeTrees([draft]);
      // Another process of the manager may have been faster.
      if (!(await isThere(this.pathOf(layer.digest)))) throw error;
    }
  }

  private async fill(draft: string, layer: Layer, signal: AbortSignal): Promise<void> {
    const made = new Set<string>();
    const folder = async (path: string) => {
      if (made.has(path)) return;
      await mkdir(path, { recursive: true, mode: 0o755 });
      made.add(path);
    };
    const small = new SmallFiles();
    try {
      const entries = layerEntries(await layer.open(signal), this.limits);
      for await (const { name, kind, isExecutable, size, content } of entries) {
        signal.throwIfAborted();
        const path = join(draft, name);
        const mode = isExecutable ? 0o555 : 0o444;
        if (kind === 'folder') {
          await folder(path);
          continue;
        }
        await folder(dirname(path));
        if (size > SMALL_BYTES) await pipeline(content, createWriteStream(path, { flags: 'wx', mode }), { signal });
        else await small.write(path, Buffer.concat(await Array.fromAsync(content)), mode);
      }
    } finally {
      await small.ended();
    }
    small.throwIfFailed();
    await chmod(draft, 0o755);
  }
}

/** Writes several files at a time, since each of them mostly waits. */
class SmallFiles {
  private readonly writing = new Set<Promise<void>>();
  private readonly failures: Error[] = [];

  /** Resolves when the next one may be written. */
  async write(path: string, content: Buffer, mode: number): Promise<void> {
    this.throwIfFailed();
    const writing = writeFile(path, content, { flag: 'wx', mode })
      .catch((error: Error) => void this.failures.push(error))
      .finally(() => this.writing.delete(writing));
    this.writing.add(writing);
    if (this.writing.size >= MOST_AT_ONCE) await Promise.race(this.writing);
  }

  async ended(): Promise<void> {
    await Promise.all(this.writing);
  }

  throwIfFailed(): void {
    const [failure] = this.failures;
    if (failure !== undefined) throw failure;
  }
}

/** One that somebody has emptied isn't, and no matter whether one is that has always been empty. */
function isThere(path: string): Promise<boolean> {
  return readdir(path).then(
    (names) => names.length > 0,
    () => false,
  );
}
