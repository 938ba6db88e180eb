import { within } from '#libs/deadlines/within.js';
import { newestLines } from '#libs/orchestrator/function-log.js';
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
/** The end is usually there a moment after the answer; each look opens the engine's log. */
const FIRST_PAUSE_MS = 3;
const LONGEST_PAUSE_MS = 50;

/** What a run has printed. */
@Injectable()
export class RunLog {
  constructor(private readonly orchestrator: Orchestrator) {}

  /**
   * The lines of the handler. Waits until the worker has said that there will be none of this call any more, for
   * `waitMs` at most: a worker that was ended doesn't say so. Empty where the engine can't be asked.
   */
  async of(id: FunctionId, requestId: string, waitMs: number): Promise<LogRecordDto[]> {
    const giveUpAt = performance.now() + waitMs;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      const lines = await this.read(id);
      const ends = lines.filter(({ line, request_id: request }) => line === END && request === requestId);
      if (ends.length >= STREAMS || performance.now() > giveUpAt) return newestOf(lines.filter((one) => !isEnd(one)));
      await delay(pauseMs);
    }
  }

  private async read(id: FunctionId): Promise<LogRecordDto[]> {
    const limits = { ms: READ_MS, signal: AbortSignal.timeout(READ_MS) };
    const records: LogRecordDto[] = [];
    try {
      await within('the log of a run', limits, async (signal) => {
        const logs = await this.orchestrator.logs(id, signal);
        for await (const line of newestLines(logs, { tail: MOST_LINES + STREAMS, signal }))
          records.push(recordOf(line));
      });
    } catch {
      // What has been read tells more than nothing.
    }
    return records.filter(({ source }) => source === 'handler');
  }
}

function isEnd({ line, request_id: request }: LogRecordDto): boolean {
  return request !== null && line === END;
}

function newestOf(lines: readonly LogRecordDto[]): LogRecordDto[] {
  let left = MOST_CHARACTERS;
  const first = lines.findLastIndex(({ line }) => (left -= line.length) < 0);
  return lines.slice(Math.max(first + 1, lines.length - MOST_LINES));
}
