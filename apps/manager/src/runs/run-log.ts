import { within } from '#libs/deadlines/within.js';
import { followLines, newestLines } from '#libs/orchestrator/function-log.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Injectable } from '@nestjs/common';
import { setTimeout as delay } from 'node:timers/promises';
import type { LogRecordDto } from '../logs/dto/log-record.dto.js';
import { recordOf } from '../logs/log-record.js';

/** Of each stream the last line of a call (docs/worker-protocol.md, Log). */
const END = '{"faas": "end of call"}';
const STREAMS = 2;
const MOST_LINES = 1_000;
/** Together; what is beyond it is left out, the oldest first. */
const MOST_CHARACTERS = 256 * 1024;
const READ_MS = 5_000;

/** What a run has printed. */
@Injectable()
export class RunLog {
  constructor(private readonly orchestrator: Orchestrator) {}

  of(id: FunctionId, requestId: string): FollowedRun {
    return new FollowedRun(this.orchestrator, id, requestId);
  }
}

/** The log of a run, read along. To be disposed of. */
export class FollowedRun implements Disposable {
  private readonly over = new AbortController();
  private records: LogRecordDto[] = [];
  private characters = 0;
  private readonly ended = Promise.withResolvers<void>();
  private ends = 0;
  private isCut = false;
  private isFollowed = false;

  constructor(
    private readonly orchestrator: Orchestrator,
    private readonly id: FunctionId,
    private readonly requestId: string,
  ) {}

  /** Begins to read once there is a worker, and no later: to open an engine's log takes longer than most calls. */
  follow(): void {
    if (this.isFollowed) return;
    this.isFollowed = true;
    this.read().catch(() => undefined);
  }

  /**
   * The lines of the handler. Waits until the worker has said that there will be none of this call any more, for
   * `waitMs` at most: a worker that was ended doesn't say so. Empty where the engine can't be asked.
   *
   * @param replica the worker that has had the call
   */
  async lines(waitMs: number, replica: string | undefined): Promise<LogRecordDto[]> {
    const hasEnded = this.ended.promise.then(() => true);
    const isWhole = await Promise.race([hasEnded, delay(waitMs, false, { signal: this.over.signal })]);
    const of = (records: readonly LogRecordDto[]) => newestOf(records.filter((record) => record.replica === replica));
    const read = of(this.records);
    if (isWhole && !this.isCut) return read;
    const found = of(await this.newest());
    // The worker may be gone, with its log.
    return timeOf(found.at(-1)) < timeOf(read.at(-1)) ? read : found;
  }

  [Symbol.dispose](): void {
    this.over.abort();
  }

  private async read(): Promise<void> {
    const list = (signal: AbortSignal) => this.orchestrator.logs(this.id, signal);
    for await (const line of followLines({ list, after: new Map(), signal: this.over.signal })) {
      if ('missed' in line) this.isCut = true;
      else this.keep(recordOf(line));
    }
  }

  private keep(record: LogRecordDto): void {
    if (record.line === END && record.request_id === this.requestId) {
      this.ends += 1;
      if (this.ends === STREAMS) this.ended.resolve();
    } else if (record.source === 'handler' && !isEnd(record)) {
      this.records.push(record);
      this.characters += record.line.length;
      // Now and then, for it costs as much as all of them do.
      if (this.records.length <= 2 * MOST_LINES && this.characters <= 2 * MOST_CHARACTERS) return;
      this.records = newestOf(this.records);
      this.characters = this.records.reduce((sum, { line }) => sum + line.length, 0);
    }
  }

  /** Once more from the end, where something was left out on the way. */
  private async newest(): Promise<LogRecordDto[]> {
    const limits = { ms: READ_MS, signal: AbortSignal.timeout(READ_MS) };
    const records: LogRecordDto[] = [];
    this.over.abort();
    try {
      await within('the log of a run', limits, async (signal) => {
        const logs = await this.orchestrator.logs(this.id, signal);
        for await (const line of newestLines(logs, { tail: MOST_LINES + STREAMS, signal }))
          records.push(recordOf(line));
      });
    } catch {
      // What has been read tells more than nothing.
    }
    return records.filter((record) => record.source === 'handler' && !isEnd(record));
  }
}

function isEnd({ line, request_id: request }: LogRecordDto): boolean {
  return request !== null && line === END;
}

function timeOf(record: LogRecordDto | undefined): string {
  return record?.time ?? '';
}

function newestOf(lines: readonly LogRecordDto[]): LogRecordDto[] {
  let left = MOST_CHARACTERS;
  const first = lines.findLastIndex(({ line }) => (left -= line.length) < 0);
  return lines.slice(Math.max(first + 1, lines.length - MOST_LINES));
}
