/** A longer line is cut, and says by how much. */
export const LONGEST_LINE = 64 * 1024;

/** One line of a replica's log, without its end. */
export interface PlainLine {
  /** RFC 3339 in UTC with nine digits of a second, so that times compare as texts. */
  readonly time: string;
  /** Undefined on an engine that keeps both streams as one. */
  readonly stream: 'stdout' | 'stderr' | undefined;
  readonly text: string;
}

export interface LogLine extends PlainLine {
  readonly replica: string;
  readonly revision: number | undefined;
}

export interface LogRange {
  /** At most this many of the newest lines. */
  readonly tail: number;
  /** None that was written earlier. */
  readonly since?: string | undefined;
  /** Goes on with new lines until the replica has ended or `signal` aborts. */
  readonly follow: boolean;
  readonly signal: AbortSignal;
}

/** What one replica has printed, as far as its engine still has it. */
export interface ReplicaLog {
  readonly replica: string;
  /** Undefined where nobody has noted it. */
  readonly revision: number | undefined;
  /** Further lines may come. */
  readonly isOpen: boolean;
  /**
   * The oldest first. What isn't asked for yet stays where it is, so that a slow reader costs no memory. None where the
   * log is gone. May throw `OrchestratorUnavailable`.
   */
  lines(range: LogRange): AsyncIterable<PlainLine>;
}

const RFC_3339 = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)$/i;

/** A time of RFC 3339 in the form of {@link PlainLine.time}; undefined for any other text. */
export function timeOf(text: string): string | undefined {
  const [, seconds, fraction = '', zone = ''] = RFC_3339.exec(text) ?? [];
  if (seconds === undefined) return undefined;
  const at = Date.parse(seconds + zone);
  if (Number.isNaN(at)) return undefined;
  const utc = new Date(at).toISOString();
  // Years beyond those that compare as texts.
  return utc.length === 24 ? `${utc.slice(0, 19)}.${fraction.padEnd(9, '0')}Z` : undefined;
}

export function timeAt(date: Date, nanoseconds = 0): string {
  return `${date.toISOString().slice(0, -1)}${String(nanoseconds % 1_000_000).padStart(6, '0')}Z`;
}

/** The moment after a time. */
export function nextTime(time: string, nanoseconds = 1): string {
  const digits = Math.min(999_999_999, Number(time.slice(20, 29)) + nanoseconds);
  return `${time.slice(0, 20)}${String(digits).padStart(9, '0')}Z`;
}

/** A line that is put together of pieces, and holds no more than it may. */
export class CutText {
  private text = '';
  private left = 0;

  add(piece: string): void {
    const room = Math.max(0, LONGEST_LINE - this.text.length);
    this.text += piece.slice(0, room);
    this.left += Math.max(0, piece.length - room);
  }

  toString(): string {
    return this.left === 0 ? this.text : `${this.text} … [${this.left} characters cut]`;
  }
}

/** Splits what comes into lines without their ends, each cut at {@link LONGEST_LINE}. */
export class LineSplitter {
  private readonly decoder = new TextDecoder();
  private pending: CutText | undefined;

  push(chunk: Uint8Array): string[] {
    const [first = '', ...others] = this.decoder.decode(chunk, { stream: true }).split('\n');
    const pending = (this.pending ??= new CutText());
    pending.add(first);
    if (others.length === 0) return [];
    const last = others.pop() ?? '';
    const lines = [pending, ...others].map((line) => String(line instanceof CutText ? line : cut(line)));
    this.pending = new CutText();
    this.pending.add(last);
    return lines;
  }

  /** What came without a line feed at its end. */
  flush(): string[] {
    const rest = String(this.pending ?? '');
    this.pending = undefined;
    return rest === '' ? [] : [rest];
  }
}

function cut(line: string): CutText {
  const text = new CutText();
  text.add(line);
  return text;
}
