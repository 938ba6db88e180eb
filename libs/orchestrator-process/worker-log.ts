import {
  appendFileSync,
  closeSync,
  type FSWatcher,
  fstatSync,
  openSync,
  readSync,
  renameSync,
  truncateSync,
  watch,
  writeFileSync,
} from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import {
  LineSplitter,
  type LogRange,
  type PlainLine,
  type ReplicaLog,
  nextTime,
  timeAt,
} from '#libs/orchestrator/replica-log.js';
import type { ReplicaPlace, ReplicaRecord, ReplicaStore } from './replica-store.js';

/** At the latest; and so long after the last look at the soonest, for a handler may print without end. */
const FOLLOW_MS = { longest: 100, least: 5 };
const ROTATE_BYTES = 4 * 1024 * 1024;
const KEPT_BYTES = 1024 * 1024;
const CHUNK_BYTES = 64 * 1024;
/** Of the end of a log. */
const FIRST_BYTES = 256 * 1024;
/** As the worker writes each line ({@link STAMPS}): its time and its stream, then the line itself. */
const STAMPED = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) /;

/** Makes a worker write the time and the stream of each line before it: a file has neither. */
export const STAMPS = { FAAS_LOG_STAMPS: '1' };

/**
 * Logs are plain files that workers append to, so that they need no manager; it only keeps them small and reads them.
 */
export class WorkerLogs {
  constructor(private readonly store: ReplicaStore) {}

  /** Cuts the log when it is too long. */
  async rotate(place: ReplicaPlace): Promise<void> {
    const path = this.store.log(place);
    const size = (await stat(path).catch(() => undefined))?.size ?? 0;
    if (size <= ROTATE_BYTES) return;
    cut(path);
  }

  /** The last lines of one replica, as many as a report of how it ended can need. */
  async tailOf(place: ReplicaPlace): Promise<string[]> {
    const texts: string[] = [];
    const stamps = new Stamps();
    const size = (await stat(this.store.log(place)).catch(() => undefined))?.size ?? 0;
    for await (const text of textsOf(this.store.log(place), { from: size - KEPT_BYTES / 8 })) {
      const line = stamps.read(text);
      if (line.text !== '') texts.push(line.text);
    }
    return texts;
  }

  of(record: ReplicaRecord): ReplicaLog {
    const { replica, revision } = record;
    return { replica, revision, isOpen: true, lines: (range) => this.lines(record, range) };
  }

  private async *lines(place: ReplicaPlace, { tail, since = '', follow, signal }: LogRange): AsyncGenerator<PlainLine> {
    const path = this.store.log(place);
    const stamps = new Stamps(await modifiedAt(path));
    const size = (await stat(path).catch(() => undefined))?.size ?? 0;
    const position = { from: 0 };
    let newest: PlainLine[] = [];
    // The end is enough for most; more is read where it doesn't hold as many lines as are asked for.
    for (let bytes = since === '' ? FIRST_BYTES : Infinity; ; bytes *= 8) {
      position.from = Math.max(0, size - bytes);
      newest = await newestOf(path, position, { tail, since, signal }, stamps);
      if (newest.length >= tail || bytes >= size || signal.aborted) break;
    }
    if (newest.length < tail && !signal.aborted) {
      // It begins within a line.
      const former = await newestOf(`${path}.1`, { from: 1 }, { tail: tail - newest.length, since, signal });
      // It may have been cut just now.
      const first = newest[0]?.time;
      newest = [...former.filter(({ time }) => first === undefined || time < first), ...newest];
    }
    yield* newest;
    if (!follow) return;
    let last = newest.at(-1)?.time ?? timeAt(new Date());
    using changes = new Changes(path);
    while (!signal.aborted) {
      await changes.next(signal);
      if (signal.aborted || !(await this.store.has(place))) return;
      if (await isCut(path, position)) {
        // What was written between the last look and the cut.
        const unread = { tail: Infinity, since: nextTime(last, 1), signal };
        for (const line of await newestOf(`${path}.1`, { from: 1 }, unread)) if (line.time >= since) yield line;
        position.from = 0;
      }
      for await (const text of textsOf(path, position)) {
        const line = stamps.read(text);
        last = line.time;
        if (line.time >= since) yield line;
      }
    }
  }
}

/** Of a file, as far as its file system tells of them. */
class Changes implements Disposable {
  private readonly watcher: FSWatcher | undefined;
  private change = Promise.withResolvers<void>();

  constructor(path: string) {
    try {
      this.watcher = watch(path, { persistent: false }, () => this.change.resolve());
      this.watcher.on('error', () => undefined);
    } catch {
      // It isn't there, or more are watched than may be.
    }
    // What was written before it was watched.
    this.change.resolve();
  }

  /** Resolves when there may be something new. */
  async next(signal: AbortSignal): Promise<void> {
    const over = new AbortController();
    const pause = (ms: number) =>
      delay(ms, undefined, { signal: AbortSignal.any([signal, over.signal]) }).catch(() => undefined);
    await pause(FOLLOW_MS.least);
    await Promise.race([this.change.promise, pause(FOLLOW_MS.longest)]);
    over.abort();
    this.change = Promise.withResolvers();
  }

  [Symbol.dispose](): void {
    this.watcher?.close();
  }
}

/** What comes after the last newline. */
function lineBegunIn(text: Buffer): Buffer {
  return text.subarray(text.lastIndexOf(10) + 1);
}

/** A file that is shorter than what has been read of it begins anew. */
async function isCut(path: string, { from }: { readonly from: number }): Promise<boolean> {
  return ((await stat(path).catch(() => undefined))?.size ?? from) < from;
}

/** The last lines of a file, from a place in it that may be within a line: what is left of that is no line. */
async function newestOf(
  path: string,
  position: { from: number },
  { tail, since = '', signal }: Pick<LogRange, 'tail' | 'since' | 'signal'>,
  stamps = new Stamps(),
): Promise<PlainLine[]> {
  const newest: PlainLine[] = [];
  let isWhole = position.from === 0;
  for await (const text of textsOf(path, position)) {
    if (signal.aborted) break;
    if (!isWhole) {
      isWhole = true;
      continue;
    }
    const line = stamps.read(text);
    if (tail > 0 && line.time >= since) newest.push(line);
    // Cut now and then, for taking the first one off costs as much as all the others do.
    if (newest.length > 2 * tail) newest.splice(0, newest.length - tail);
  }
  return newest.slice(-tail || newest.length);
}

/** Reads the stamps of one file's lines. What has none, such as the interpreter's own words, comes right after the line before. */
class Stamps {
  private readonly before: string;
  private last: Pick<PlainLine, 'time' | 'stream'>;
  private following = 0;

  /** @param unknown when lines before the first stamp may have been written */
  constructor(unknown = new Date(0)) {
    this.before = timeAt(unknown);
    this.last = { time: this.before, stream: undefined };
  }

  read(text: string): PlainLine {
    const [stamp, time, stream] = STAMPED.exec(text) ?? [];
    if (stamp === undefined) {
      this.following += 1;
      return { ...this.last, time: nextTime(this.last.time, this.following), text };
    }
    this.following = 0;
    this.last = { time: time as string, stream: stream as 'stdout' | 'stderr' };
    return { ...this.last, text: text.slice(stamp.length) };
  }
}

/**
 * Whole lines only, up to the end of the file as it is now; leaves in `position` where the next one begins. None when
 * the file is shorter than that: it was cut.
 */
async function* textsOf(path: string, position: { from: number }): AsyncGenerator<string> {
  const file = await open(path, 'r').catch(() => undefined);
  if (file === undefined) return;
  try {
    const { size } = await file.stat();
    let at = Math.max(0, position.from);
    const splitter = new LineSplitter();
    while (at < size) {
      const chunk = await chunkAt(file, at, Math.min(CHUNK_BYTES, size - at));
      if (chunk.length === 0) return;
      at += chunk.length;
      const whole = chunk.lastIndexOf(10) + 1;
      const lines = splitter.push(chunk);
      if (whole > 0) position.from = at - chunk.length + whole;
      yield* lines;
    }
  } finally {
    await file.close();
  }
}

async function chunkAt(file: FileHandle, position: number, bytes: number): Promise<Buffer> {
  const buffer = Buffer.alloc(bytes);
  const { bytesRead } = await file.read(buffer, 0, bytes, Math.max(0, position));
  return buffer.subarray(0, bytesRead);
}

async function modifiedAt(path: string): Promise<Date | undefined> {
  return (await stat(path).catch(() => undefined))?.mtime;
}

/** Without a pause, for what the worker writes between the last reading and the cut is lost. */
function cut(path: string): void {
  const file = openSync(path, 'r');
  try {
    const { size } = fstatSync(file);
    // Another manager of this folder has been here.
    if (size <= ROTATE_BYTES) return;
    const before = Buffer.alloc(KEPT_BYTES);
    readSync(file, before, 0, KEPT_BYTES, size - KEPT_BYTES);
    // A former one stays whole until this one is.
    writeFileSync(`${path}.1.new`, before, { mode: 0o600 });
    renameSync(`${path}.1.new`, `${path}.1`);
    const room = Buffer.alloc(KEPT_BYTES);
    const since = room.subarray(0, readSync(file, room, 0, KEPT_BYTES, size));
    appendFileSync(`${path}.1`, since);
    // The worker's descriptor appends, so that it goes on at the new end.
    truncateSync(path);
    // What it has written of a line stays before what it writes of it next.
    const begun = lineBegunIn(Buffer.concat([lineBegunIn(before), since]));
    if (begun.length > 0) appendFileSync(path, begun);
  } finally {
    closeSync(file);
  }
}
