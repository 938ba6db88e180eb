/** So many pieces may have any size. */
const FREE_PIECES = 4_096;
/** The least that all further pieces may have on average. Smaller ones cost far more work than their bytes. */
const LEAST_BYTES = 64;
/** A piece takes more memory than its bytes, so pieces shorter than this are joined. */
const SMALL_BYTES = 1_024;
const MOST_SMALL = 256;

/** Whether `bytes` came in more pieces than any honest sender makes of them. */
export function areTooManyPieces(pieces: number, bytes: number): boolean {
  return pieces > FREE_PIECES + bytes / LEAST_BYTES;
}

/** Bytes that arrive in pieces, kept in about their own size of memory however small the pieces are. */
export class Chunks {
  private list: Buffer[] = [];
  /** How many small pieces are last in the list. */
  private small = 0;

  add(chunk: Buffer): void {
    const isSmall = chunk.length < SMALL_BYTES;
    if (!isSmall || this.small === MOST_SMALL) this.joinSmall();
    this.list.push(chunk);
    if (isSmall) this.small += 1;
  }

  clear(): void {
    this.list = [];
    this.small = 0;
  }

  /** All bytes, without a copy if they came in one piece. None is kept here. */
  take(): Buffer {
    const all = this.list.length === 1 ? (this.list[0] as Buffer) : Buffer.concat(this.list);
    this.clear();
    return all;
  }

  private joinSmall(): void {
    if (this.small > 1) this.list.push(Buffer.concat(this.list.splice(-this.small)));
    this.small = 0;
  }
}
