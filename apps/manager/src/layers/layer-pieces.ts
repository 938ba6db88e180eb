import { inPieces } from '#libs/orchestrator/layer-archive.js';
import { createHash, type Hash } from 'node:crypto';
import { PassThrough, Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createZstdCompress, createZstdDecompress } from 'node:zlib';

/** A row of the database each: large enough that there are few, small enough to hold several in memory. */
const PIECE_BYTES = 2 * 1024 * 1024;
/** Faster than a disk, and half of what packages take. */
const LEVEL = 2;

/** An archive as it is kept: compressed, in pieces. */
export interface Packed {
  readonly pieces: AsyncIterable<Buffer>;
  /** Of the archive, once all its pieces have been taken. */
  readonly sha256: () => string;
}

/** Opened when the first piece is asked for. */
export function packed(open: () => Promise<Readable>): Packed {
  const hash = createHash('sha256');
  let digest: string | undefined;
  return { pieces: piecesOf(open, hash), sha256: () => (digest ??= hash.digest('hex')) };
}

async function* piecesOf(open: () => Promise<Readable>, hash: Hash): AsyncGenerator<Buffer> {
  const archive = await open();
  const packed = new PassThrough();
  const compress = createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: LEVEL } });
  const seen = new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      hash.update(chunk);
      done(null, chunk);
    },
  });
  const working = pipeline(archive, seen, compress, packed);
  working.catch(() => undefined);
  yield* inPieces(packed as AsyncIterable<Buffer>, PIECE_BYTES);
  await working;
}

/** The archive again. */
export function archiveOf(pieces: AsyncIterable<Buffer>): Readable {
  const archive = createZstdDecompress();
  pipeline(Readable.from(pieces), archive).catch(() => undefined);
  return archive;
}
