import { Writable } from 'node:stream';
import { AppError } from '#libs/errors/app-error.js';
import { Chunks } from '../memory/chunks.js';
import type { MemoryReservation } from '../memory/memory-budget.js';

/** Takes what arrives, and keeps it where it is small enough; of more than that only the size. */
export class KeptBytes extends Writable {
  bytes = 0;
  private readonly chunks = new Chunks();
  private refusal: AppError | undefined;

  constructor(
    private readonly most: number,
    private readonly reservation: Pick<MemoryReservation, 'add'>,
  ) {
    super();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.bytes += chunk.length;
    try {
      if (this.isKept) {
        this.reservation.add(chunk.length);
        this.chunks.add(chunk);
      } else this.chunks.clear();
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      this.refusal = error;
      this.chunks.clear();
    }
    done();
  }

  private get isKept(): boolean {
    return this.bytes <= this.most && this.refusal === undefined;
  }

  /** Undefined: it was too large. Throws what there was no memory for it by. */
  take(): Buffer | undefined {
    if (this.bytes > this.most) return undefined;
    if (this.refusal !== undefined) throw this.refusal;
    return this.chunks.take();
  }
}
