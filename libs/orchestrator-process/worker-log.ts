import { open, readdir, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { FunctionId, LogLine, LogOptions } from '#libs/orchestrator/workload.js';
import type { ReplicaPlace, ReplicaStore } from './replica-store.js';

const FOLLOW_INTERVAL_MS = 100;
const ROTATE_BYTES = 4 * 1024 * 1024;
const KEPT_BYTES = 1024 * 1024;
const KEPT_LOGS_OF_ENDED = 2;
const ENDED = 'ended-';

interface Source {
  readonly replica: string;
  readonly path: string;
}

/**
 * Logs are plain files that workers append to, so that they need no manager; it only keeps them small and reads them.
 * Lines carry no time of their own: theirs is when the file was last written.
 */
export class WorkerLogs {
  constructor(private readonly store: ReplicaStore) {}

  /** Cuts the log when it is too long. */
  async rotate(place: ReplicaPlace): Promise<void> {
    const path = this.store.log(place);
    const size = (await stat(path).catch(() => undefined))?.size ?? 0;
    if (size <= ROTATE_BYTES) return;
    await writeFile(`${path}.1`, await readFrom(path, size - KEPT_BYTES), { mode: 0o600 });
    // The worker's descriptor appends, so that it goes on at the new end.
    await truncate(path, 0);
  }

  /** The last lines of one replica, as many as a report of how it ended can need. */
  async tailOf(place: ReplicaPlace): Promise<string[]> {
    const text = await readFrom(this.store.log(place), -KEPT_BYTES / 8).catch(() => '');
    return text
      .toString()
      .split('\n')
      .filter((line) => line !== '');
  }

  /** A replica's log stays readable after it ended; only those of the last few do. */
  async keep(place: ReplicaPlace): Promise<void> {
    const dir = this.store.functionDir(place.functionId);
    await rename(this.store.log(place), join(dir, `${ENDED}${Date.now()}-${place.replica}`)).catch(() => undefined);
    const kept = (await namesIn(dir)).filter((name) => name.startsWith(ENDED)).toSorted();
    for (const name of kept.slice(0, -KEPT_LOGS_OF_ENDED)) await rm(join(dir, name), { force: true });
  }

  async *read(functionId: FunctionId, { tail, follow, signal }: LogOptions): AsyncGenerator<LogLine> {
    const ends = new Map<string, number>();
    const newest: LogLine[] = [];
    for (const { replica, path } of await this.sources(functionId)) {
      const { lines, end } = await linesFrom({ replica, path }, -ROTATE_BYTES);
      const { lines: earlier } = await linesFrom({ replica, path: `${path}.1` }, -KEPT_BYTES);
      newest.push(...(tail > 0 ? [...earlier, ...lines].slice(-tail) : []));
      ends.set(replica, end);
    }
    yield* newest.toSorted((a, b) => a.at.getTime() - b.at.getTime());
    if (!follow) return;
    while (!signal.aborted) {
      await delay(FOLLOW_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      for (const source of await this.sources(functionId)) {
        const { lines, end } = await linesFrom(source, ends.get(source.replica) ?? 0);
        ends.set(source.replica, end);
        yield* lines;
      }
    }
  }

  private async sources(functionId: FunctionId): Promise<Source[]> {
    const dir = this.store.functionDir(functionId);
    const ended = (await namesIn(dir)).filter((name) => name.startsWith(ENDED)).toSorted();
    const living = await this.store.load(functionId);
    return [
      ...ended.map((name) => ({ replica: name.split('-').slice(2).join('-'), path: join(dir, name) })),
      ...living.map((record) => ({ replica: record.replica, path: this.store.log(record) })),
    ];
  }
}

/** Whole lines only; `end` is where the next one begins. A file shorter than `from` was cut, and begins anew. */
async function linesFrom({ replica, path }: Source, from: number): Promise<{ lines: LogLine[]; end: number }> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined || found.size === from) return { lines: [], end: found?.size ?? 0 };
  const start = from < 0 ? Math.max(0, found.size + from) : from <= found.size ? from : 0;
  const bytes = await readFrom(path, start).catch(() => Buffer.alloc(0));
  const whole = bytes.lastIndexOf(10) + 1;
  const texts = whole === 0 ? [] : bytes.toString('utf8', 0, whole - 1).split('\n');
  const lines = texts.map((text) => {
    const stream: LogLine['stream'] = text.startsWith('{"faas":') ? 'stderr' : 'stdout';
    return { replica, at: found.mtime, stream, text };
  });
  return { lines, end: start + whole };
}

function namesIn(dir: string): Promise<string[]> {
  return readdir(dir).catch(() => []);
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
