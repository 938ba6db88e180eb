import { PassThrough, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createZstdCompress, createZstdDecompress } from 'node:zlib';

/** A row of the database each: large enough that there are few, small enough to hold several in memory. */
const PIECE_BYTES = 2 * 1024 * 1024;
/** Faster than a disk, and half of what packages take. */
const LEVEL = 2;

/** An archive as it is kept: compressed, in pieces. Opened when the first of them is asked for. */
export async function* piecesOf(open: () => Promise<Readable>): AsyncGenerator<Buffer> {
  const archive = await open();
  const packed = new PassThrough();
  const compress = createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: LEVEL } });
  const working = pipeline(archive, compress, packed);
  working.catch(() => undefined);
  let held: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of packed as AsyncIterable<Buffer>) {
    held.push(chunk);
    bytes += chunk.length;
    if (bytes < PIECE_BYTES) continue;
    yield Buffer.concat(held);
    [held, bytes] = [[], 0];
  }
  await working;
  if (bytes > 0) yield Buffer.concat(held);
}

/** The archive again. */
export function archiveOf(pieces: AsyncIterable<Buffer>): Readable {
  const archive = createZstdDecompress();
  pipeline(Readable.from(pieces), archive).catch(() => undefined);
  return archive;
}
