import { CutText, type PlainLine, timeAt, timeOf } from '#libs/orchestrator/replica-log.js';

const HEADER_BYTES = 8;
const STDERR = 2;
/** Of lines that were asked for without their times. */
const EPOCH = timeAt(new Date(0));
const STAMPED = /^(\d{4}-\d\d-\d\dT\S+Z) ?/;

type Stream = 'stdout' | 'stderr';

interface Pending {
  readonly time: string;
  readonly text: CutText;
}

/**
 * Reads the engine's multiplexed log: frames of 8 bytes header (stream, length) and a message that begins with its
 * time. A long line comes as several messages, each with a time of its own; only the last ends with a line feed.
 */
export class LogFrames {
  private rest: Buffer = Buffer.alloc(0);
  private readonly pending: Partial<Record<Stream, Pending | undefined>> = {};

  push(chunk: Buffer): PlainLine[] {
    this.rest = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
    const lines: PlainLine[] = [];
    while (this.rest.length >= HEADER_BYTES) {
      const end = HEADER_BYTES + this.rest.readUInt32BE(4);
      if (this.rest.length < end) break;
      const stream = this.rest.readUInt8(0) === STDERR ? 'stderr' : 'stdout';
      lines.push(...this.message(stream, this.rest.toString('utf8', HEADER_BYTES, end)));
      this.rest = this.rest.subarray(end);
    }
    return lines;
  }

  /** What came without a line feed at its end. */
  flush(): PlainLine[] {
    return (['stdout', 'stderr'] as const).flatMap((stream) => {
      const pending = this.pending[stream];
      this.pending[stream] = undefined;
      return pending ? [{ time: pending.time, stream, text: String(pending.text) }] : [];
    });
  }

  private message(stream: Stream, message: string): PlainLine[] {
    const stamp = STAMPED.exec(message);
    const text = stamp ? message.slice(stamp[0].length) : message;
    const begun = this.pending[stream];
    const pending = begun ?? { time: timeOf(stamp?.[1] ?? '') ?? EPOCH, text: new CutText() };
    const isWhole = text.endsWith('\n');
    pending.text.add(isWhole ? text.slice(0, -1) : text);
    this.pending[stream] = isWhole ? undefined : pending;
    return isWhole ? [{ time: pending.time, stream, text: String(pending.text) }] : [];
  }
}

export function logLines(log: Buffer): PlainLine[] {
  const frames = new LogFrames();
  return [...frames.push(log), ...frames.flush()];
}
