import type { Readable } from 'node:stream';
import { extract } from 'tar-stream';

const PARTS_PER_FILE = 2;
const MIB = 1024 * 1024;

/** One file or folder of a layer; what it holds has to be read, or passed over, before the next. */
export interface LayerEntry {
  /** Relative, without a way out of the folder it is unpacked in. */
  readonly name: string;
  readonly kind: 'file' | 'folder';
  readonly isExecutable: boolean;
  readonly size: number;
  readonly content: AsyncIterable<Buffer>;
}

/** What an archive may not hold. */
export class BadArchive extends Error {}

/**
 * The entries of a layer's archive. Code of a source distribution may have made it, so it is taken for hostile: files
 * and folders alone, inside of the folder, and no more of them than there may be. Throws {@link BadArchive}.
 */
export async function* layerEntries(
  archive: Readable,
  { largestMiB, mostFiles }: { readonly largestMiB: number; readonly mostFiles: number },
): AsyncGenerator<LayerEntry> {
  const entries = extract();
  archive.once('error', (error: Error) => entries.destroy(error));
  archive.pipe(entries);
  let [left, count] = [largestMiB * MIB, 0];
  try {
    for await (const content of entries) {
      const { name, type, size, mode } = content.header;
      count += 1;
      left -= size;
      if (left < 0 || count > mostFiles * PARTS_PER_FILE) throw new BadArchive('The layer is larger than it may be.');
      const parts = name.replace(/\/$/, '').split('/');
      if (name.includes('\0') || parts.some((part) => part === '' || part === '.' || part === '..')) {
        throw new BadArchive(`The layer holds a file of an unusable name: ${JSON.stringify(name.slice(0, 200))}.`);
      }
      if (type !== 'file' && type !== 'directory') throw new BadArchive(`The layer holds a ${type}: ${name}.`);
      const kind = type === 'file' ? 'file' : 'folder';
      yield {
        name: parts.join('/'),
        kind,
        isExecutable: (mode & 0o100) !== 0,
        size,
        content: content as AsyncIterable<Buffer>,
      };
      content.resume();
    }
  } finally {
    archive.destroy();
    entries.destroy();
  }
}

/** The same bytes in pieces of so many at least, but for the last one. */
export async function* inPieces(chunks: AsyncIterable<Buffer>, leastBytes: number): AsyncGenerator<Buffer> {
  let held: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    held.push(chunk);
    bytes += chunk.length;
    if (bytes < leastBytes) continue;
    yield Buffer.concat(held);
    [held, bytes] = [[], 0];
  }
  if (bytes > 0) yield Buffer.concat(held);
}
