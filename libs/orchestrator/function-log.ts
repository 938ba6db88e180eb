import { setTimeout as delay } from 'node:timers/promises';
import { within } from '#libs/deadlines/within.js';
import type { LogLine, LogRange, ReplicaLog } from './replica-log.js';

/** So much waits for a reader of new lines; what comes beyond it is counted and left out. */
const MOST_WAITING = { lines: 2_000, characters: 1024 * 1024 };
const LOOK_AGAIN_MS = 1_000;
const ALL = 2 ** 31 - 1;
const FIRST_LINE_MS = 5_000;

/** In place of lines that came faster than they were read. */
export interface MissedLines {
  readonly missed: number;
}

type Newest = Pick<LogRange, 'tail' | 'since' | 'signal'>;

/** The newest lines of all replicas, `tail` of each at most, in the order of their times. */
export async function* newestLines(
  logs: readonly ReplicaLog[],
  { tail, since, signal }: Newest,
): AsyncGenerator<LogLine> {
  const over = new AbortController();
  const range = { tail, since, follow: false, signal: AbortSignal.any([signal, over.signal]) };
  const readers = logs.map((log) => linesOf(log, range));
  try {
    const begun = await Promise.allSettled(readers.map((reader) => advanceSoon(reader, range.signal)));
    const failures = begun.filter(({ status }) => status === 'rejected');
    // A replica whose machine is down must not hide the log of the others.
    if (failures.length > 0 && failures.length === begun.length) throw (failures[0] as PromiseRejectedResult).reason;
    const heads = new Set(begun.flatMap((one) => (one.status === 'fulfilled' && one.value ? [one.value] : [])));
    while (heads.size > 0) {
      const first = [...heads].reduce((least, head) => (head.line.time < least.line.time ? head : least));
      yield first.line;
      const next = await advance(first.reader).catch(() => undefined);
      if (next === undefined) heads.delete(first);
      else first.line = next.line;
    }
  } finally {
    over.abort();
    await Promise.allSettled(readers.map((reader) => reader.return(undefined)));
  }
}

/** The first line takes an engine a moment at most, unless it can't reach that replica. */
function advanceSoon(reader: AsyncGenerator<LogLine>, signal: AbortSignal): ReturnType<typeof advance> {
  return within('the first line of a replica', { ms: FIRST_LINE_MS, signal }, () => advance(reader));
}

async function advance(reader: AsyncGenerator<LogLine>): Promise<{ reader: typeof reader; line: LogLine } | undefined> {
  const { done, value } = await reader.next();
  return done === true ? undefined : { reader, line: value };
}

async function* linesOf(log: ReplicaLog, range: LogRange): AsyncGenerator<LogLine> {
  const { replica, revision } = log;
  for await (const line of log.lines(range)) yield { ...line, replica, revision };
}

export interface Following {
  /** What the engine has now. A failure is passed over: an engine that is away comes back. */
  readonly list: (signal: AbortSignal) => Promise<readonly ReplicaLog[]>;
  /** The time of the last line of each replica that is known already. */
  readonly after: ReadonlyMap<string, string>;
  readonly since?: string | undefined;
  /** Lines that aren't wanted take no place. */
  readonly accepts?: (line: LogLine) => boolean;
  /** Resolves when it is time to look for new replicas; every second if unset. */
  readonly nextLook?: (signal: AbortSignal) => Promise<void>;
  readonly signal: AbortSignal;
}

/** New lines as they come, also of replicas that start later, until the signal aborts. */
export async function* followLines(following: Following): AsyncGenerator<LogLine | MissedLines> {
  const over = new AbortController();
  const signal = AbortSignal.any([following.signal, over.signal]);
  const follower = new Follower({ ...following, signal });
  const attaching = follower.attachAll();
  try {
    yield* follower.inbox.items(signal);
  } finally {
    over.abort();
    await attaching;
  }
}

class Follower {
  readonly inbox = new Inbox();
  private readonly after: Map<string, string>;
  private readonly known = new Set<string>();
  private readonly open = new Map<string, Promise<void>>();

  constructor(private readonly following: Following) {
    this.after = new Map(following.after);
  }

  /** Resolves once the signal has aborted and nothing is read any more. */
  async attachAll(): Promise<void> {
    const { list, nextLook = everySecond, signal } = this.following;
    while (!signal.aborted) {
      const logs = await list(signal).catch(() => []);
      for (const log of logs) {
        const { replica } = log;
        if (this.open.has(replica) || (this.known.has(replica) && !log.isOpen)) continue;
        this.known.add(replica);
        this.open.set(
          replica,
          this.attach(log).finally(() => this.open.delete(replica)),
        );
      }
      await nextLook(signal).catch(() => undefined);
    }
    await Promise.all(this.open.values());
  }

  /** Where it breaks off, a replica that still runs is attached again. */
  private async attach(log: ReplicaLog): Promise<void> {
    const { since, accepts = () => true, signal } = this.following;
    // What was known before: later lines may have earlier times, as both streams are stamped apart.
    const known = this.after.get(log.replica);
    const range = { tail: ALL, since: known ?? since, follow: true, signal };
    try {
      for await (const line of linesOf(log, range)) {
        if (known !== undefined && line.time <= known) continue;
        if (line.time > (this.after.get(log.replica) ?? '')) this.after.set(log.replica, line.time);
        if (accepts(line)) this.inbox.put(line);
      }
    } catch {
      this.known.delete(log.replica);
    }
  }
}

/** Lines that wait for their reader; never more than there is room for. */
class Inbox {
  private waiting: LogLine[] = [];
  private characters = 0;
  private missed = 0;
  private arrival = Promise.withResolvers<void>();

  put(line: LogLine): void {
    const isFull = this.waiting.length >= MOST_WAITING.lines || this.characters >= MOST_WAITING.characters;
    // Once a line was left out, those after it are too until the reader has caught up: gaps are few, and at their place.
    if (isFull || this.missed > 0) this.missed += 1;
    else {
      this.waiting.push(line);
      this.characters += line.text.length;
    }
    this.arrival.resolve();
  }

  async *items(signal: AbortSignal): AsyncGenerator<LogLine | MissedLines> {
    const wake = () => this.arrival.resolve();
    signal.addEventListener('abort', wake, { once: true });
    while (!signal.aborted) {
      yield* this.take();
      if (this.waiting.length > 0) continue;
      if (this.missed > 0) {
        const { missed } = this;
        this.missed = 0;
        yield { missed };
        continue;
      }
      await this.arrival.promise;
      this.arrival = Promise.withResolvers<void>();
    }
  }

  private take(): LogLine[] {
    const lines = this.waiting;
    this.waiting = [];
    this.characters = 0;
    return lines;
  }
}

function everySecond(signal: AbortSignal): Promise<void> {
  return delay(LOOK_AGAIN_MS, undefined, { signal });
}
