import { open, readdir, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { FunctionId, LogLine, LogOptions } from '#libs/orchestrator/workload.js';
import { LogMarks } from './log-marks.js';
import type { ReplicaFiles, ReplicaRecord } from './replica-files.js';

const FOLLOW_INTERVAL_MS = 100;
const ROTATE_BYTES = 4 * 1024 * 1024;
const KEPT_BYTES = 1024 * 1024;
const KEPT_LOGS_OF_ENDED = 2;
const ENDED = 'ended-';

interface Source {
  readonly replica: string;
  readonly path: string;
  /** What was cut off the file, where it may have been. */
  readonly cutOff?: string;
}

/** Logs are plain files that workers append to, so that they need no manager; it only keeps them small and reads them. */
export class WorkerLogs {
  private readonly marks = new Map<string, LogMarks>();

  constructor(private readonly files: ReplicaFiles) {}

  /** Notes how far the log has got by now, and cuts it when it is too long. */
  async maintain(record: ReplicaRecord): Promise<void> {
    const path = this.files.log(record);
    const found = await stat(path).catch(() => undefined);
    if (found === undefined) return;
    this.marksOf(path).note(found.size, found.mtimeMs);
    if (found.size <= ROTATE_BYTES) return;
    await writeFile(`${path}.1`, await readFrom(path, found.size - KEPT_BYTES), { mode: 0o600 });
    // The worker's descriptor appends, so that it goes on at the new end.
    await truncate(path, 0);
    this.marks.delete(path);
  }

  /** The last lines of one replica, as many as a report of how it ended can need. */
  async tailOf(record: ReplicaRecord): Promise<string[]> {
    const text = await readFrom(this.files.log(record), -KEPT_BYTES / 8).catch(() => Buffer.alloc(0));
    return linesOf(text.toString('utf8'));
  }

  /** A replica's log stays readable after it ended; only those of the last few do. */
  async keep(record: ReplicaRecord): Promise<void> {
    const dir = this.files.functionDir(record.functionId);
    this.marks.delete(this.files.log(record));
    await rename(this.files.log(record), join(dir, `${ENDED}${Date.now()}-${record.replica}`)).catch(() => undefined);
    const kept = (await readdir(dir)).filter((name) => name.startsWith(ENDED)).toSorted();
    for (const name of kept.slice(0, -KEPT_LOGS_OF_ENDED)) await rm(join(dir, name), { force: true });
  }

  async *read(functionId: FunctionId, { tail, follow, signal }: LogOptions): AsyncGenerator<LogLine> {
    const offsets = new Map<string, number>();
    const newest: LogLine[] = [];
    for (const source of await this.sources(functionId)) {
      const { lines, end } = await this.linesFrom(source, -ROTATE_BYTES);
      const { replica, cutOff } = source;
      const missing = tail - lines.length;
      if (missing > 0 && cutOff !== undefined) {
        const earlier = (await this.linesFrom({ replica, path: cutOff }, -KEPT_BYTES)).lines;
        newest.push(...earlier.slice(Math.max(0, earlier.length - missing)));
      }
      newest.push(...lines.slice(Math.max(0, lines.length - tail)));
      offsets.set(source.replica, end);
    }
    yield* newest.toSorted((a, b) => a.at.getTime() - b.at.getTime());
    if (!follow) return;
    while (!signal.aborted) {
      await delay(FOLLOW_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      for (const source of await this.sources(functionId)) {
        const { lines, end } = await this.linesFrom(source, offsets.get(source.replica) ?? 0);
        offsets.set(source.replica, end);
        yield* lines;
      }
    }
  }

  /** Whole lines only; `end` is where the next one begins. A file shorter than `from` was cut, and begins anew. */
  private async linesFrom({ replica, path }: Source, from: number): Promise<{ lines: LogLine[]; end: number }> {
    const found = await stat(path).catch(() => undefined);
    if (found === undefined || found.size === from) return { lines: [], end: found?.size ?? 0 };
    const start = from < 0 ? Math.max(0, found.size + from) : from <= found.size ? from : 0;
    const bytes = await readFrom(path, start).catch(() => Buffer.alloc(0));
    const marks = this.marksOf(path);
    const lines: LogLine[] = [];
    let begin = 0;
    for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, begin)) {
      const text = bytes.toString('utf8', begin, end);
      begin = end + 1;
      const at = new Date(marks.timeOf(start + begin) ?? found.mtimeMs);
      lines.push({ replica, at, stream: text.startsWith('{"faas":') ? 'stderr' : 'stdout', text });
    }
    return { lines, end: start + begin };
  }

  private async sources(functionId: FunctionId): Promise<Source[]> {
    const dir = this.files.functionDir(functionId);
    const names = await readdir(dir).catch(() => []);
    const ended = names
      .filter((name) => name.startsWith(ENDED))
      .toSorted()
      .map((name) => ({ replica: name.split('-').slice(2).join('-'), path: join(dir, name) }));
    const records = await this.files.peek(functionId);
    const living = records.map((record) => {
      const path = this.files.log(record);
      return { replica: record.replica, path, cutOff: `${path}.1` };
    });
    return [...ended, ...living];
  }

  private marksOf(path: string): LogMarks {
    const known = this.marks.get(path);
    if (known !== undefined) return known;
    const created = new LogMarks();
    this.marks.set(path, created);
    return created;
  }
}

function linesOf(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}

/** The file from an offset on, or its last bytes when the offset is negative. */
async function readFrom(path: string, offset: number): Promise<Buffer> {
  await using file = await open(path, 'r');
  const { size } = await file.stat();
  const start = offset < 0 ? Math.max(0, size + offset) : Math.min(offset, size);
  const buffer = Buffer.alloc(size - start);
  const { bytesRead } = await file.read(buffer, 0, buffer.length, start);
  return buffer.subarray(0, bytesRead);
}
