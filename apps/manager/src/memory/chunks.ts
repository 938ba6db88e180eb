/** So many pieces may have any size. */
const FREE_PIECES = 4_096;
/** The least that all further pieces may have on average. Smaller ones cost far more work than their bytes. */
const LEAST_BYTES = 64;
/** A piece costs more than its bytes: shorter ones than this are put together, however long those around them are. */
const SMALL_BYTES = 1_024;
const MOST_SMALL = 256;

/** Whether `bytes` came in more pieces than any honest sender makes of them. */
export function areTooManyPieces(pieces: number, bytes: number): boolean {
  return pieces > FREE_PIECES + bytes / LEAST_BYTES;
}

/** Bytes that arrive piece by piece, kept at about their size in memory however small a peer makes the pieces. */
export class Chunks {
  private list: Buffer[] = [];
  /** How many small ones came last. */
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

  /** All of them, without a copy where there is one. Nothing of them is kept. */
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
