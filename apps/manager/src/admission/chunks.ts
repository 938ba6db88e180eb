/** A piece costs more than its bytes: shorter ones than this are put together when there are many. */
const SMALL_BYTES = 1_024;
const MOST_SMALL = 256;

/** Bytes that arrive piece by piece, kept at about their size in memory however small a peer makes the pieces. */
export class Chunks {
  private list: Buffer[] = [];
  /** How many small ones came last. */
  private small = 0;

  add(chunk: Buffer): void {
    this.list.push(chunk);
    if (chunk.length >= SMALL_BYTES) this.small = 0;
    else if (++this.small === MOST_SMALL) {
      this.list.push(Buffer.concat(this.list.splice(-MOST_SMALL)));
      this.small = 0;
    }
  }

  clear(): void {
    this.list = [];
    this.small = 0;
  }

  /** All of them, without a copy where there is one. */
  whole(): Buffer {
    return this.list.length === 1 ? (this.list[0] as Buffer) : Buffer.concat(this.list);
  }
}
