import { randomBytes } from 'node:crypto';

/** Why a WebSocket is closed (RFC 6455, 7.4, and what is registered beside it). */
export const CLOSE = { goingAway: 1001, failed: 1011, restarting: 1012 } as const;

const CLOSING = 8;
const FINAL = 0x80;
const MASKED = 0x80;
const MASK_BYTES = 4;
const MOST_HEAD_BYTES = 14;
const LARGEST_REASON = 123;
const CODE_BYTES = 2;

/** Where frames begin and end in what passes. It reads their heads, and the code of a closing one. */
export class FrameTracker {
  private readonly head = Buffer.alloc(MOST_HEAD_BYTES);
  private headBytes = 0;
  private left = 0;
  private readonly mask = Buffer.alloc(MASK_BYTES);
  private isClosing = false;
  private code = 0;
  private codeBytes = 0;
  /** A closing frame has passed, or begun to. */
  hasClosed = false;

  /** Nothing of a frame has passed whose end has not. */
  get isBetween(): boolean {
    return this.headBytes === 0 && this.left === 0;
  }

  /** The code of the closing frame that has passed; undefined: there was none, or it has none. */
  get closedWith(): number | undefined {
    return this.codeBytes === CODE_BYTES ? this.code : undefined;
  }

  /** Follows what passes. Returns how many of its bytes end the first frame; undefined: none ends in it. */
  follow(chunk: Buffer): number | undefined {
    let first: number | undefined;
    let at = 0;
    while (at < chunk.length) {
      if (this.left === 0 && !this.readHead(chunk[at++] as number)) continue;
      const bytes = Math.min(this.left, chunk.length - at);
      if (this.isClosing) this.readCode(chunk.subarray(at, at + bytes));
      this.left -= bytes;
      at += bytes;
      if (this.left === 0) first ??= at;
    }
    return first;
  }

  /** True once the head is complete. */
  private readHead(byte: number): boolean {
    const { head } = this;
    head[this.headBytes++] = byte;
    if (this.headBytes < 2) return false;
    const second = head[1] as number;
    const short = second & 0x7f;
    const lengthBytes = short === 126 ? 2 : short === 127 ? 8 : 0;
    const maskBytes = (second & MASKED) === 0 ? 0 : MASK_BYTES;
    if (this.headBytes < 2 + lengthBytes + maskBytes) return false;
    this.left = lengthBytes === 0 ? short : lengthBytes === 2 ? head.readUInt16BE(2) : Number(head.readBigUInt64BE(2));
    this.isClosing = ((head[0] as number) & 0x0f) === CLOSING;
    this.hasClosed ||= this.isClosing;
    if (this.isClosing) head.copy(this.mask, 0, 2 + lengthBytes, this.headBytes);
    this.headBytes = 0;
    return true;
  }

  private readCode(payload: Buffer): void {
    for (const byte of payload.subarray(0, CODE_BYTES - this.codeBytes)) {
      this.code = (this.code << 8) | (byte ^ (this.mask[this.codeBytes] as number));
      this.codeBytes += 1;
    }
  }
}

/** A closing frame as servers send it, or masked as clients do. */
export function closeFrame(code: number, reason: string, to: 'client' | 'server'): Buffer {
  const text = Buffer.from(reason).subarray(0, LARGEST_REASON);
  const payload = Buffer.alloc(2 + text.length);
  payload.writeUInt16BE(code);
  text.copy(payload, 2);
  const first = FINAL | CLOSING;
  if (to === 'client') return Buffer.concat([Buffer.from([first, payload.length]), payload]);
  const mask = randomBytes(MASK_BYTES);
  for (let index = 0; index < payload.length; index += 1) {
    payload[index] = (payload[index] as number) ^ (mask[index % MASK_BYTES] as number);
  }
  return Buffer.concat([Buffer.from([first, MASKED | payload.length]), mask, payload]);
}
