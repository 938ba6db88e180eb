import type { LogLine } from '#libs/orchestrator/workload.js';

const HEADER_BYTES = 8;
const STDERR = 2;
const STAMPED = /^(\d{4}-\d\d-\d\dT\S+Z) ?/;

type PlainLine = Omit<LogLine, 'replica'>;

interface Pending {
  at: Date;
  text: string;
}

/**
 * Reads the engine's multiplexed log: frames of 8 bytes header (stream, length) and a message that begins with its
 * time. A long line comes as several messages, each with a time of its own; only the last ends with a line feed.
 */
export class LogFrames {
  private rest: Buffer = Buffer.alloc(0);
  private readonly pending: Partial<Record<LogLine['stream'], Pending>> = {};

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
      delete this.pending[stream];
      return pending ? [{ ...pending, stream }] : [];
    });
  }

  private message(stream: LogLine['stream'], message: string): PlainLine[] {
    const stamp = STAMPED.exec(message);
    const text = stamp ? message.slice(stamp[0].length) : message;
    const pending = this.pending[stream] ?? { at: new Date(stamp?.[1] ?? 0), text: '' };
    pending.text += text;
    if (!text.endsWith('\n')) {
      this.pending[stream] = pending;
      return [];
    }
    delete this.pending[stream];
    return [{ at: pending.at, text: pending.text.slice(0, -1), stream }];
  }
}

export function logLines(log: Buffer): PlainLine[] {
  const frames = new LogFrames();
  return [...frames.push(log), ...frames.flush()];
}
