import { within } from '#libs/deadlines/within.js';
import { type PlainLine, type ReplicaLog } from './replica-log.js';
import type { FunctionId } from './workload.js';

/** The last lines of a replica that its engine is about to forget. */
export interface LastWords {
  readonly functionId: FunctionId;
  readonly replica: string;
  readonly revision: number | undefined;
  readonly lines: readonly PlainLine[];
}

/** Takes them, and resolves when they are kept. */
export type Keep = (words: LastWords) => Promise<void>;

/** What is kept of one replica. */
const MOST_CHARACTERS = 64 * 1024;
const MOST_LINES = 1_000;
/** What a removal may wait for it, whatever the engine and the database do. */
const LONGEST_MS = 1_000;
/** Logs that are read at once; hundreds of functions may go to sleep together. */
const MOST_AT_ONCE = 8;
/** Further ones wait for a place, and are left out beyond these. */
const MOST_WAITING = 512;

/** Where engines take the log of a replica that is about to go, before it is gone with it. */
export class Departures {
  /** Called for each log that is lost, because too many left at once or nobody answered in time. */
  onLeftOut: () => void = () => undefined;
  private keep: Keep | undefined;
  private reading = 0;
  private readonly waiting: (() => void)[] = [];

  /** Where there is nobody who keeps them, nothing is read. */
  keepWith(keep: Keep): void {
    this.keep = keep;
  }

  /** Resolves when the log is kept, and after a second in any case. Best effort: never rejects. */
  async tell(functionId: FunctionId, log: ReplicaLog): Promise<void> {
    const { keep } = this;
    if (keep === undefined) return;
    if (this.waiting.length >= MOST_WAITING) {
      this.onLeftOut();
      return;
    }
    const { replica, revision } = log;
    let hasPlace = false;
    try {
      await within('reading the last lines', { ms: LONGEST_MS }, async (signal) => {
        await this.place(signal);
        hasPlace = true;
        const lines = await lastLines(log, signal);
        signal.throwIfAborted();
        if (lines.length > 0) await keep({ functionId, replica, revision, lines });
      });
    } catch {
      this.onLeftOut();
    } finally {
      // A read that minds no signal must not keep the others out.
      if (hasPlace) this.givePlace();
    }
  }

  private async place(signal: AbortSignal): Promise<void> {
    if (this.reading >= MOST_AT_ONCE) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.waiting.push(resolve);
      const leave = () => {
        const at = this.waiting.indexOf(resolve);
        if (at >= 0) this.waiting.splice(at, 1);
        resolve();
      };
      signal.addEventListener('abort', leave, { once: true });
      await promise;
      signal.removeEventListener('abort', leave);
      signal.throwIfAborted();
    }
    this.reading += 1;
  }

  private givePlace(): void {
    this.reading -= 1;
    this.waiting.shift()?.();
  }
}

/** The newest lines that fit. */
async function lastLines(log: ReplicaLog, signal: AbortSignal): Promise<PlainLine[]> {
  const lines: PlainLine[] = [];
  let characters = 0;
  for await (const line of log.lines({ tail: MOST_LINES, follow: false, signal })) {
    lines.push(line);
    characters += line.text.length;
    while (characters > MOST_CHARACTERS && lines.length > 1) characters -= lines.shift()?.text.length ?? 0;
  }
  return lines;
}
