import { isUtf8 } from 'node:buffer';
import type { Writable } from 'node:stream';
import type { LimitsConfig } from '#libs/config/config.js';
import type { CallTiming } from '../gateway/call-timing.js';
import { HandlerError } from '../gateway/errors.js';
import type { HttpBody, HttpRequest, HttpSink } from '../gateway/http-exchange.js';
import type { Mount } from '../gateway/http-headers.js';
import type { KeptBytes } from './kept-bytes.js';

/** What is kept of an HTTP call beside its body. */
export interface RequestHead extends Mount {
  readonly method: string;
  /** Below the root, with the query. */
  readonly target: string;
  /** By name and value in turn. */
  readonly headers: readonly string[];
}

/** What is kept of its answer beside its body. */
export interface AnswerHead {
  readonly status: number;
  readonly headers: readonly string[];
}

/** Statuses that say that the function could not do it, now or at all (RFC 9110, section 15.6). */
const FIRST_FAILURE = 500;
const SHOWN_BYTES = 500;
const LINE_FEED = 0x0a;
const NOTHING = Buffer.alloc(0);

/** Head and body as one value: the head is a line of JSON. */
export function packed(head: RequestHead | AnswerHead, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${JSON.stringify(head)}\n`), body]);
}

export function unpacked<Head extends RequestHead | AnswerHead>(kept: Buffer): { head: Head; body: Buffer } {
  const end = kept.indexOf(LINE_FEED);
  return { head: JSON.parse(kept.toString('utf8', 0, end)) as Head, body: kept.subarray(end + 1) };
}

/** An HTTP call that was kept, on its way to a worker. */
export class KeptCall implements HttpRequest {
  method = '';
  target = '';
  mount: Mount = { root: '' };
  headers: readonly string[] = [];
  readonly body = new KeptBody();
  readonly payloadBytes: number;
  readonly idleMs: number;
  readonly sink: KeptAnswer;

  constructor(
    { payloadBytes, streamIdleMs }: Pick<LimitsConfig, 'payloadBytes' | 'streamIdleMs'>,
    kept: KeptBytes,
    timing: CallTiming,
  ) {
    this.payloadBytes = payloadBytes;
    this.idleMs = streamIdleMs;
    this.sink = new KeptAnswer(kept, timing);
  }

  load(kept: Buffer): void {
    const { head, body } = unpacked<RequestHead>(kept);
    ({ method: this.method, target: this.target, headers: this.headers } = head);
    this.mount = head;
    this.body.whole = body;
  }
}

class KeptBody implements HttpBody {
  whole: Buffer = NOTHING;

  get bytes(): number {
    return this.whole.length;
  }

  readonly announced = undefined;
  readonly isRead = true;
  readonly isUsed = false;

  async *pieces(): AsyncGenerator<Buffer, void> {
    yield this.whole;
  }
}

class KeptAnswer implements HttpSink {
  private head: AnswerHead = { status: 0, headers: [] };

  constructor(
    private readonly kept: KeptBytes,
    private readonly timing: CallTiming,
  ) {}

  begin(status: number, headers: readonly string[]): Writable {
    this.head = { status, headers };
    this.timing.httpStatus = status;
    return this.kept;
  }

  fault(): HandlerError | undefined {
    const { status } = this.head;
    if (status < FIRST_FAILURE) return undefined;
    const body = this.kept.take() ?? NOTHING;
    const shown = isUtf8(body) ? body.toString('utf8', 0, SHOWN_BYTES) : '';
    return new HandlerError(`It answered ${status}${shown === '' ? '.' : `: ${shown}`}`, {});
  }

  /** What a call that succeeded has come to. */
  outcome(): { readonly result: Buffer; readonly resultBytes: number } {
    return { result: packed(this.head, this.kept.take() ?? NOTHING), resultBytes: this.kept.bytes };
  }
}
