import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pack } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Layer } from '#libs/orchestrator/layers.js';
import { UnpackedLayers } from './unpacked-layers.js';

const LIMITS = { largestMiB: 4, mostFiles: 1_000 };
const digest = 'a'.repeat(64);
const signal = AbortSignal.timeout(60_000);

function layerOf(files: readonly (readonly [string, string | Buffer])[]): Layer {
  const archive = pack();
  for (const [name, content] of files) archive.entry({ name, mode: name.startsWith('bin/') ? 0o755 : 0o644 }, content);
  archive.finalize();
  return {
    digest,
    open: () => Promise.resolve(Readable.from(archive as AsyncIterable<Buffer>)),
    describe: () => Promise.reject(new Error('Nobody fetches it from elsewhere here.')),
  };
}

describe('UnpackedLayers', () => {
  let folder: string;
  let layers: UnpackedLayers;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'faas-layers-'));
    layers = new UnpackedLayers(join(folder, 'layers'), LIMITS);
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));
  const names = async () => (existsSync(join(folder, 'layers')) ? readdir(join(folder, 'layers')) : []);

  it('has every file as it was, small and large, for reading', async () => {
    const many = Array.from({ length: 100 }, (_, n) => [`pkg/sub${n % 7}/m${n}.py`, `x = ${n}\n`] as const);
    const large = Buffer.alloc(1_000_000, 'large ');
    await layers.ready(layerOf([...many, ['pkg/data.bin', large], ['bin/tool', '#!']]), signal);
    const at = (name: string) => join(layers.pathOf(digest), name);
    for (const [name, content] of many) expect(await readFile(at(name), 'utf8')).toBe(content);
    expect((await readFile(at('pkg/data.bin'))).equals(large)).toBe(true);
    expect(((await stat(at('bin/tool'))).mode & 0o777).toString(8)).toBe('555');
    expect(((await stat(at('pkg/sub0/m0.py'))).mode & 0o777).toString(8)).toBe('444');
    expect(await names()).toEqual([digest]);
  });

  it('shows nothing of a layer of which a file can’t be written, or that is more than it may be', async () => {
    const twice = [['a.py', '1'] as const, ['a.py', '2'] as const];
    await expect(layers.ready(layerOf(twice), signal)).rejects.toThrow(/EEXIST/);
    const tooMuch = [['a.bin', Buffer.alloc(5 * 1024 * 1024)] as const];
    await expect(layers.ready(layerOf(tooMuch), signal)).rejects.toThrow(/larger than it may be/);
    expect(await names()).toEqual([]);
    await layers.ready(layerOf([['a.py', '1']]), signal);
    expect(await names()).toEqual([digest]);
  });

  it('goes on for others when the one who waited first gives up', async () => {
    const { promise: held, resolve: letGo } = Promise.withResolvers<void>();
    const whole = layerOf([['a.py', '1']]);
    const slow: Layer = { ...whole, open: async (bounded) => held.then(() => whole.open(bounded)) };
    const leaving = new AbortController();
    const first = layers.ready(slow, leaving.signal);
    const second = layers.ready(slow, signal);
    leaving.abort(new Error('a step is over'));
    await expect(first).rejects.toThrow('a step is over');
    letGo();
    await second;
    expect(await readFile(join(layers.pathOf(digest), 'a.py'), 'utf8')).toBe('1');
  });

  it('keeps what is kept, and what is young', async () => {
    await layers.ready(layerOf([['a.py', '1']]), signal);
    await layers.sweep(new Set([digest]));
    await layers.sweep(new Set());
    expect(await names()).toEqual([digest]);
  });
});
