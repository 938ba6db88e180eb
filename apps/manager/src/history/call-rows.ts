import { CALL_KINDS, type CallKind, type EndedCall } from '../gateway/call-ends.js';

/** What {@link CallRows} has of each call, in this order. */
export const ROW_COLUMNS = `id, request_bytes, answer_bytes, revision, queue_ms, handler_ms, total_ms, kind, attempt,
  http_status, is_cold, function_id, request_id, replica, created_by, code, detail, invocation_id`;
const COLUMNS = 18;
const FIRST_BYTES = 64 * 1024;
/** More than any row takes, with texts as long as they may be: of each {@link LONGEST} characters are kept. */
const ROW_BYTES = 8_192;
export const LONGEST = 500;
const HEADER = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1');
const TRAILER = Buffer.from([0xff, 0xff]);
const NULL = -1;
const KINDS = new Map<CallKind, number>(CALL_KINDS.map((kind, index) => [kind, index]));

/** Calls as PostgreSQL's binary COPY takes them (https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.55.9.4). */
export class Rows {
  static readonly NONE = new Rows(Buffer.alloc(0), []);

  /** @param starts where in the bytes each row begins */
  constructor(
    private readonly bytes: Buffer,
    private readonly starts: readonly number[],
  ) {}

  get count(): number {
    return this.starts.length;
  }

  get size(): number {
    return this.bytes.length;
  }

  /** With what goes before and after. */
  get copied(): Buffer {
    return Buffer.concat([HEADER, this.bytes, TRAILER]);
  }

  slice(from: number, to: number): Rows {
    const start = this.starts[from] ?? this.size;
    const starts = this.starts.slice(from, to).map((one) => one - start);
    return new Rows(this.bytes.subarray(start, this.starts[to] ?? this.size), starts);
  }
}

/**
 * Makes rows of calls. They are written at once as bytes, so that nothing of a call outlives it and the garbage
 * collector has nothing to copy.
 */
export class CallRows {
  private bytes = Buffer.allocUnsafeSlow(FIRST_BYTES);
  private at = 0;
  private starts: number[] = [];

  get count(): number {
    return this.starts.length;
  }

  get size(): number {
    return this.at;
  }

  add(call: EndedCall): void {
    const start = this.at;
    try {
      this.write(call);
    } catch (error) {
      this.at = start;
      throw error;
    }
    this.starts.push(start);
  }

  /** All of them, and begins anew. */
  take(): Rows {
    const taken = new Rows(this.bytes.subarray(0, this.at), this.starts);
    this.bytes = Buffer.allocUnsafeSlow(Math.max(FIRST_BYTES, this.at));
    this.at = 0;
    this.starts = [];
    return taken;
  }

  private write({ id, kind, requestId, timing, code, detail, endedAt, createdBy, attemptOf }: EndedCall): void {
    if (this.bytes.length - this.at < ROW_BYTES) this.grow();
    this.int2(COLUMNS);
    this.uuid(id);
    this.int8(timing.requestBytes);
    this.int8(timing.answerBytes);
    this.int4(timing.revision > 0 ? timing.revision : timing.servedBy);
    this.float4(timing.queueMs(endedAt));
    this.float4(timing.workerMs);
    this.float4(endedAt - timing.startedAt);
    this.small(KINDS.get(kind));
    this.small(attemptOf?.attempt);
    this.small(timing.httpStatus === 0 ? undefined : timing.httpStatus);
    this.length(1);
    this.bytes[this.at++] = timing.isCold ? 1 : 0;
    this.text(timing.calledId);
    this.text(requestId);
    this.text(timing.replica);
    this.text(createdBy);
    this.text(code);
    this.text(detail);
    if (attemptOf === undefined) this.length(NULL);
    else this.uuid(attemptOf.invocation);
  }

  private grow(): void {
    const larger = Buffer.allocUnsafeSlow(this.bytes.length * 2);
    this.bytes.copy(larger, 0, 0, this.at);
    this.bytes = larger;
  }

  private length(bytes: number): void {
    this.at = this.bytes.writeInt32BE(bytes, this.at);
  }

  private int2(value: number): void {
    this.at = this.bytes.writeInt16BE(value, this.at);
  }

  private int4(value: number): void {
    this.length(4);
    this.at = this.bytes.writeInt32BE(value, this.at);
  }

  private int8(value: number): void {
    this.length(8);
    this.at = this.bytes.writeInt32BE(Math.floor(value / 2 ** 32), this.at);
    this.at = this.bytes.writeUInt32BE(value % 2 ** 32, this.at);
  }

  private float4(value: number): void {
    this.length(4);
    this.at = this.bytes.writeFloatBE(value, this.at);
  }

  private small(value: number | undefined): void {
    if (value === undefined) return this.length(NULL);
    this.length(2);
    this.int2(value);
  }

  private uuid(text: string): void {
    this.length(16);
    for (let from = 0; from < 36; from += 2) {
      if (text.charCodeAt(from) === 0x2d) from += 1;
      this.bytes[this.at++] = (digitOf(text.charCodeAt(from)) << 4) | digitOf(text.charCodeAt(from + 1));
    }
  }

  private text(value: string | null | undefined): void {
    if (value === undefined || value === null) return this.length(NULL);
    const start = this.at + 4;
    const long = Math.min(value.length, LONGEST);
    const { bytes } = this;
    for (let index = 0; index < long; index += 1) {
      const character = value.charCodeAt(index);
      if (character === 0 || character > 0x7e) return this.otherText(value);
      bytes[start + index] = character;
    }
    this.length(long);
    this.at += long;
  }

  /** NUL is no text of PostgreSQL's, nor is a lone surrogate. */
  private otherText(value: string): void {
    const shown = value.slice(0, LONGEST).toWellFormed().replaceAll('\0', '\u{FFFD}');
    const written = this.bytes.write(shown, this.at + 4);
    this.length(written);
    this.at += written;
  }
}

function digitOf(character: number): number {
  return character < 0x3a ? character - 0x30 : character - 0x57;
}
