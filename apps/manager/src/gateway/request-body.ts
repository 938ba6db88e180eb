import type { IncomingMessage } from 'node:http';
import { Chunks } from '../memory/chunks.js';
import { notePassed } from '../memory/passed-bytes.js';
import type { MemoryReservation } from '../memory/memory-budget.js';
import { CallCancelled } from './errors.js';
import type { HttpBody } from './http-exchange.js';

/** A body that is no longer is kept until the call has been answered, and can be sent again. */
const KEPT_BYTES = 64 * 1024;
const NOTHING = Buffer.alloc(0);

/** The body of an HTTP call: its beginning, and the rest as it arrives. */
export class RequestBody implements HttpBody {
  private beginning: Buffer = NOTHING;
  /** All of it has been read. */
  private isWhole = false;
  private isTaken = false;
  private isBegun = false;
  private read = 0;

  constructor(private readonly request: IncomingMessage) {}

  /**
   * Reads as much as is kept. Throws what `reservation` throws when it has no room for it, and {@link CallCancelled}
   * when the caller leaves.
   */
  begin(reservation: Pick<MemoryReservation, 'add'>): Promise<Buffer> {
    const { request } = this;
    const { 'content-length': length, 'transfer-encoding': coding } = request.headers;
    if (coding === undefined && Number(length ?? 0) === 0) {
      this.isWhole = true;
      return Promise.resolve(NOTHING);
    }
    if (request.destroyed) return Promise.reject(new CallCancelled());
    this.isBegun = true;
    return new Promise((resolve, reject) => {
      const chunks = new Chunks();
      let size = 0;
      const done = () => {
        request.off('data', onData).off('end', onEnd).off('close', onClose);
        this.beginning = chunks.take();
      };
      const onData = (chunk: Buffer) => {
        try {
          reservation.add(chunk.length);
        } catch (error) {
          done();
          // The rest of what was refused is read and forgotten.
          request.resume();
          reject(error);
          return;
        }
        chunks.add(chunk);
        size += chunk.length;
        this.read = size;
        if (size < KEPT_BYTES) return;
        request.pause();
        done();
        resolve(this.beginning);
      };
      const onEnd = () => {
        this.isWhole = true;
        done();
        resolve(this.beginning);
      };
      const onClose = () => {
        done();
        reject(new CallCancelled());
      };
      request.on('data', onData).once('end', onEnd).once('close', onClose);
    });
  }

  /**
   * The rest of a body that was begun is read and forgotten once the call is over: until then its sender can't send its
   * next request.
   */
  end(): void {
    if (this.isBegun && !this.isWhole) this.request.on('data', () => undefined).resume();
  }

  get whole(): Buffer | undefined {
    return this.isWhole ? this.beginning : undefined;
  }

  /** How much of it has been read. */
  get bytes(): number {
    return this.read;
  }

  get isRead(): boolean {
    return this.isWhole;
  }

  get isUsed(): boolean {
    return this.isTaken;
  }

  get announced(): string | undefined {
    return this.request.headers['content-length'];
  }

  async *pieces(mayGoOn: Promise<boolean>): AsyncGenerator<Buffer, void> {
    yield this.beginning;
    if (!(await mayGoOn) || this.isTaken) return;
    this.isTaken = true;
    this.beginning = NOTHING;
    const { request } = this;
    for await (const chunk of request.iterator({ destroyOnReturn: false })) {
      this.read += (chunk as Buffer).length;
      notePassed((chunk as Buffer).length);
      yield chunk as Buffer;
    }
    this.isWhole = true;
  }
}
