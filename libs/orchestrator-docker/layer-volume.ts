import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import type { ContainerCreateOptions } from 'dockerode';
import { type Header, pack, type Pack } from 'tar-stream';
import type { LayersConfig } from '#libs/config/config.js';
import { within } from '#libs/deadlines/within.js';
import { inPieces, layerEntries, type LayerEntry } from '#libs/orchestrator/layer-archive.js';
import { Leaving } from '#libs/orchestrator/leaving.js';
import { type Layer, longestUnpackingMs } from '#libs/orchestrator/layers.js';
import type { DockerEngine } from './docker-engine.js';
import { isImageMissing, isMissing } from './engine-fault.js';
import { LABEL } from './labels.js';

/** Where every worker has the layers. */
export const LAYERS_DIR = '/layers';

type AddWhole = (header: Partial<Header>, content: Buffer, added: (error?: Error | null) => void) => void;

const SMALL_BYTES = 64 * 1024;
const PIECE_BYTES = 256 * 1024;
const REMOVE_MS = 20_000;
/** Longer than most builds. */
const SPARE_MS = 60_000;
const SWEEP_MS = 60_000;
/** Without anything known to be there in vain. */
const SWEEP_EVERY_MS = 24 * 3_600_000;
/** Longer than a layer that was made just now takes to be in the list of those that are kept. */
const YOUNG_MS = 10 * 60_000;
const FOLDER = { type: 'directory', mode: 0o755, uid: 0, gid: 0, mtime: new Date(0) } as const;

/** Links that aren't kept, and folders that no link leads to. */
const SWEEP = `
import os, shutil, sys, time
root, young, kept = sys.argv[1], float(sys.argv[2]), set(sys.argv[3:])
now = time.time()
names = os.listdir(root)
for name in names:
    path = os.path.join(root, name)
    if os.path.islink(path) and name not in kept and now - os.lstat(path).st_ctime > young:
        os.unlink(path)
led_to = {os.readlink(os.path.join(root, name)) for name in os.listdir(root) if os.path.islink(os.path.join(root, name))}
for name in os.listdir(root):
    path = os.path.join(root, name)
    if not os.path.islink(path) and name not in led_to and now - os.lstat(path).st_ctime > young:
        shutil.rmtree(path, ignore_errors=True)
`;

/** A container to fill the volume by, made ahead. */
interface Porter {
  readonly id: Promise<string>;
  readonly unused: NodeJS.Timeout;
}

/** How a container gets at the layers. */
export function layersMount(owner: string, volume: string, isReader = true) {
  const options = { NoCopy: true, Labels: { [LABEL.owner]: owner }, DriverConfig: { Name: '', Options: {} } };
  return {
    Type: 'volume' as const,
    Source: volume,
    Target: LAYERS_DIR,
    ReadOnly: isReader,
    VolumeOptions: options,
  };
}

/**
 * Layers in a volume that all workers have from their start, for reading. It is filled by way of a container that never
 * runs: a layer lies in a folder of a random name, and is there once a link of its digest leads to it.
 */
export class LayerVolume {
  private readonly known = new Set<string>();
  private readonly filling = new Map<string, Promise<void>>();
  private readonly closing = new AbortController();
  private readonly longestMs: number;
  private readonly leaving = new Leaving();
  private sweptAt = Date.now();
  private spare: Porter | undefined;

  constructor(
    private readonly engine: DockerEngine,
    private readonly owner: string,
    private readonly image: string,
    readonly volume: string,
    private readonly limits: Pick<LayersConfig, 'largestMiB' | 'mostFiles'>,
  ) {
    this.longestMs = longestUnpackingMs(limits);
  }

  pathOf(digest: string): string {
    return `${LAYERS_DIR}/${digest}`;
  }

  /** Unpacks it unless it is there, or was when it was last looked at. */
  async ready(layer: Layer, signal: AbortSignal): Promise<void> {
    if (this.known.has(layer.digest)) return;
    const work = this.filling.get(layer.digest) ?? this.begin(layer);
    await within('unpacking a layer', { signal }, () => work);
  }

  /** Whoever waits for it may stop, and find it there the next time: a large layer takes longer than a step may. */
  private begin(layer: Layer): Promise<void> {
    const bounded = AbortSignal.any([this.closing.signal, AbortSignal.timeout(this.longestMs)]);
    const work = this.fill(layer, bounded)
      .then((isThere) => void (isThere && this.known.add(layer.digest)))
      .finally(() => this.filling.delete(layer.digest));
    work.catch(() => undefined);
    this.filling.set(layer.digest, work);
    return work;
  }

  /** A layer comes soon: what it takes can be made ahead. */
  expect(): void {
    if (this.spare !== undefined || this.closing.signal.aborted) return;
    // Not aborted: nobody would know whether it was made.
    const id = this.make(AbortSignal.timeout(REMOVE_MS));
    id.catch(() => undefined);
    const unused = setTimeout(() => void this.dropSpare(), SPARE_MS).unref();
    this.spare = { id, unused };
  }

  /** A worker didn't find it, or may not have: it is looked for again. */
  forget({ digest }: Layer): void {
    this.known.delete(digest);
  }

  /** Ends what is being unpacked, and waits for what is being removed. */
  async close(): Promise<void> {
    this.closing.abort(new Error('The engine is closed.'));
    await this.dropSpare();
    await Promise.allSettled(this.filling.values());
    await this.leaving.gone();
  }

  async sweep(kept: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
    const gone = [...this.known].filter((digest) => !kept.has(digest));
    if (gone.length === 0 && Date.now() - this.sweptAt < SWEEP_EVERY_MS) return;
    for (const digest of gone) this.known.delete(digest);
    this.sweptAt = Date.now();
    const young = String((YOUNG_MS + this.longestMs) / 1_000);
    const Entrypoint = ['python3', '-c', SWEEP, LAYERS_DIR, young, ...kept];
    const config = this.container({ Entrypoint, Cmd: [] });
    await this.engine.runToEnd({ ...config, HostConfig: { ...config.HostConfig, AutoRemove: true } }, SWEEP_MS, signal);
  }

  /** False where there is no image yet: what starts a worker says so. */
  private async fill(layer: Layer, signal: AbortSignal): Promise<boolean> {
    const spare = await this.takeSpare();
    if (spare !== undefined) {
      try {
        await this.fillBy(spare, layer, signal);
        return true;
      } catch (error) {
        // Somebody has removed it meanwhile.
        if (!isMissing(error)) throw error;
      }
    }
    let porter: string;
    try {
      porter = await this.make(signal);
    } catch (error) {
      if (isImageMissing(error)) return false;
      throw error;
    }
    await this.fillBy(porter, layer, signal);
    return true;
  }

  private async fillBy(porter: string, layer: Layer, signal: AbortSignal): Promise<void> {
    try {
      if (await this.isThere(porter, layer, signal)) return;
      await this.unpack(porter, layer, `in-${randomBytes(8).toString('hex')}`, signal);
    } finally {
      this.remove(porter);
    }
  }

  /** By the folder behind the link, which somebody may have removed, or emptied. */
  private async isThere(porter: string, layer: Layer, signal: AbortSignal): Promise<boolean> {
    const folder = this.pathOf(layer.digest);
    if (!(await this.engine.hasPath(porter, `${folder}/.`, signal))) return false;
    for await (const { name } of layerEntries(await layer.open(signal), this.limits)) {
      return this.engine.hasPath(porter, `${folder}/${name}`, signal);
    }
    return true;
  }

  private make(signal: AbortSignal): Promise<string> {
    return this.engine.create(`faas-layer-${randomBytes(8).toString('hex')}`, this.container({}), signal);
  }

  private remove(porter: string): void {
    this.leaving.add(this.engine.remove({ id: porter, volume: undefined }, true, AbortSignal.timeout(REMOVE_MS)));
  }

  private async takeSpare(): Promise<string | undefined> {
    const { spare } = this;
    this.spare = undefined;
    clearTimeout(spare?.unused);
    return spare?.id.catch(() => undefined);
  }

  private async dropSpare(): Promise<void> {
    const porter = await this.takeSpare();
    if (porter !== undefined) this.remove(porter);
  }

  /** Puts everything below `folder`, whatever the archive says of owners and modes, and at last the link to it. */
  private async unpack(porter: string, layer: Layer, folder: string, signal: AbortSignal): Promise<void> {
    const archive = pack();
    const failing = new AbortController();
    const either = AbortSignal.any([signal, failing.signal]);
    // Nobody may list what there is; the names of layers are for those who were told them.
    archive.entry({ ...FOLDER, name: 'layers', mode: 0o711 });
    archive.entry({ ...FOLDER, name: `layers/${folder}` });
    const packing = async () => {
      for await (const entry of layerEntries(await layer.open(either), this.limits)) {
        either.throwIfAborted();
        await add(archive, `layers/${folder}/${entry.name}`, entry);
      }
      archive.entry({ ...FOLDER, name: `layers/${layer.digest}`, type: 'symlink', linkname: folder, mode: 0o777 });
      archive.finalize();
    };
    packing().catch((error: unknown) => failing.abort(error));
    // Packages have many small files, of which each would be sent by itself.
    const pieces = Readable.from(inPieces(archive as AsyncIterable<Buffer>, PIECE_BYTES), { objectMode: false });
    await this.engine.putArchive(porter, '/', pieces, either, this.longestMs);
  }

  private container(config: Partial<ContainerCreateOptions>): ContainerCreateOptions {
    return {
      Image: this.image,
      User: '0:0',
      Labels: { [LABEL.owner]: this.owner, [LABEL.layers]: 'porter' },
      ...config,
      HostConfig: {
        NetworkMode: 'none',
        CapDrop: ['ALL'],
        SecurityOpt: ['no-new-privileges'],
        Memory: 256 * 1024 * 1024,
        PidsLimit: 16,
        Mounts: [layersMount(this.owner, this.volume, false)],
      },
    };
  }
}

async function add(archive: Pack, name: string, { kind, isExecutable, size, content }: LayerEntry): Promise<void> {
  if (kind === 'folder') {
    archive.entry({ ...FOLDER, name });
    return;
  }
  const header = { name, size, mode: isExecutable ? 0o755 : 0o644, uid: 0, gid: 0, mtime: new Date(0) };
  // Most files of packages are small, and a stream for each takes longer than they do.
  if (size <= SMALL_BYTES) await promisify(archive.entry.bind(archive) as AddWhole)(header, await buffer(content));
  else await pipeline(content, archive.entry(header) as unknown as NodeJS.WritableStream);
}
