import { randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { chmod, lstat, mkdir, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { LayersConfig } from '#libs/config/config.js';
import { within } from '#libs/deadlines/within.js';
import { FILE_LIST, layerEntries } from '#libs/orchestrator/layer-archive.js';
import { type Layer, longestUnpackingMs } from '#libs/orchestrator/layers.js';
import { removeTrees } from './clean-up.js';

const SMALL_BYTES = 256 * 1024;
const MOST_AT_ONCE = 16;
const DRAFT = '.in-';
const GONE = '.gone-';
/** Longer than a layer that was made just now takes to be in the list of those that are kept. */
const YOUNG_MS = 10 * 60_000;
const RENEWED_EVERY_MS = 60_000;

/**
 * Layers as folders of this machine that all workers may read. Workers find those whose names they are told; the folder
 * above can't be listed.
 */
export class UnpackedLayers {
  private readonly unpacking = new Map<string, Promise<void>>();
  /** Those that have lost files, and are to be unpacked anew. */
  private readonly lost = new Set<string>();
  private readonly renewedAt = new Map<string, number>();
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
    if (!this.lost.has(layer.digest) && (await isThere(this.pathOf(layer.digest)))) return;
    const work = this.unpacking.get(layer.digest) ?? this.begin(layer);
    await within('unpacking a layer', { signal }, () => work);
  }

  /** Whether files of it are gone, or have another size. Then whoever needs it next has it unpacked anew. */
  async hasLost({ digest }: Layer): Promise<boolean> {
    // Code that runs as this user may change it whenever it is loaded, which must not go on for ever.
    if (Date.now() - (this.renewedAt.get(digest) ?? 0) < RENEWED_EVERY_MS) return false;
    if (await isWhole(this.pathOf(digest))) return false;
    this.lost.add(digest);
    return true;
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
    for (const digest of this.renewedAt.keys()) if (!kept.has(digest)) this.renewedAt.delete(digest);
    const gone: string[] = [];
    for (const name of names) {
      const path = join(this.folder, name);
      const found = kept.has(name) ? undefined : await stat(path).catch(() => undefined);
      if (found === undefined || Date.now() - found.ctimeMs <= YOUNG_MS + this.longestMs) continue;
      gone.push((await this.setAside(path)) ?? path);
    }
    await removeTrees(gone);
  }

  private async unpack(layer: Layer, signal: AbortSignal): Promise<void> {
    await mkdir(this.folder, { recursive: true, mode: 0o711 });
    await chmod(this.folder, 0o711);
    const draft = join(this.folder, `${DRAFT}${randomBytes(6).toString('hex')}`);
    const path = this.pathOf(layer.digest);
    const isRenewed = this.lost.has(layer.digest);
    try {
      await mkdir(draft, { mode: 0o755 });
      await this.fill(draft, layer, signal);
      const former = isRenewed ? await this.setAside(path) : undefined;
      await rename(draft, path);
      if (isRenewed) this.renewedAt.set(layer.digest, Date.now());
      this.lost.delete(layer.digest);
      // What is left of it goes with a sweep.
      if (former !== undefined) await removeTrees([former]).catch(() => undefined);
    } catch (error) {
      await removeTrees([draft]);
      // Another process of the manager may have been faster.
      if (isRenewed || !(await isThere(path))) throw error;
    }
  }

  /** Half of a layer must never be found under its name. Undefined: it isn't there, or can't be moved. */
  private async setAside(path: string): Promise<string | undefined> {
    const aside = join(this.folder, `${GONE}${randomBytes(6).toString('hex')}`);
    return rename(path, aside).then(
      () => aside,
      () => undefined,
    );
  }

  private async fill(draft: string, layer: Layer, signal: AbortSignal): Promise<void> {
    const made = new Set<string>();
    const folder = async (path: string) => {
      if (made.has(path)) return;
      await mkdir(path, { recursive: true, mode: 0o755 });
      made.add(path);
    };
    const small = new SmallFiles();
    const files: [string, number][] = [];
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
        files.push([name, size]);
        await folder(dirname(path));
        if (size > SMALL_BYTES) await pipeline(content, createWriteStream(path, { flags: 'wx', mode }), { signal });
        else await small.write(path, Buffer.concat(await Array.fromAsync(content)), mode);
      }
    } finally {
      await small.ended();
    }
    small.throwIfFailed();
    await writeFile(join(draft, FILE_LIST), JSON.stringify(files), { flag: 'wx', mode: 0o444 });
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

function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

/** Whether all files of an unpacked layer are there, in their sizes. One that doesn't name them may have lost any. */
async function isWhole(folder: string): Promise<boolean> {
  try {
    const files = JSON.parse(await readFile(join(folder, FILE_LIST), 'utf8')) as [string, number][];
    for (let at = 0; at < files.length; at += MOST_AT_ONCE) {
      const found = await Promise.all(files.slice(at, at + MOST_AT_ONCE).map(([name]) => lstat(join(folder, name))));
      if (found.some((one, index) => !one.isFile() || one.size !== files[at + index]?.[1])) return false;
    }
    return true;
  } catch {
    return false;
  }
}
