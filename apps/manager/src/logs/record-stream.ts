import type { ServerResponse } from 'node:http';
import type { LogRecordDto, MissedLinesDto } from './dto/log-record.dto.js';

export const NDJSON = 'application/x-ndjson';
export const EVENT_STREAM = 'text/event-stream';
const HEARTBEAT_MS = 15_000;

/** Writes records to a client, no faster than it reads. */
export class RecordStream {
  private readonly heartbeat: NodeJS.Timeout | undefined;

  /** Begins the answer. */
  constructor(
    private readonly response: ServerResponse,
    private readonly isEventStream: boolean,
  ) {
    response.setHeader('Content-Type', isEventStream ? EVENT_STREAM : NDJSON);
    response.setHeader('Cache-Control', 'no-store');
    response.setHeader('X-Content-Type-Options', 'nosniff');
    // Proxies would hold back what is to be seen at once.
    response.setHeader('X-Accel-Buffering', 'no');
    response.flushHeaders();
    // So that a client that vanished without a word is noticed.
    response.socket?.setKeepAlive(true, HEARTBEAT_MS);
    if (isEventStream) this.heartbeat = setInterval(() => this.beat(), HEARTBEAT_MS).unref();
  }

  /** Resolves when more may be written. The connection may have ended meanwhile. */
  async write(record: LogRecordDto | MissedLinesDto): Promise<void> {
    const { response } = this;
    if (response.destroyed || response.write(this.framed(record))) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    response.once('drain', resolve).once('close', resolve);
    await promise;
    response.off('drain', resolve).off('close', resolve);
  }

  end(): void {
    clearInterval(this.heartbeat);
    this.response.end();
  }

  private framed(record: LogRecordDto | MissedLinesDto): string {
    const json = JSON.stringify(record);
    if (!this.isEventStream) return `${json}\n`;
    return 'missed' in record ? `event: missed\ndata: ${json}\n\n` : `id: ${record.time}\ndata: ${json}\n\n`;
  }

  private beat(): void {
    if (!this.response.writableNeedDrain) this.response.write(':\n\n');
  }
}
