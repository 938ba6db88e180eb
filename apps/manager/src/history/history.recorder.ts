import type { HistoryConfig } from '#libs/config/config.js';
import { HISTORY_CONFIG } from '#libs/config/config.module.js';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { within } from '#libs/deadlines/within.js';
import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { CallEnds, type EndedCall, type Exchanged } from '../gateway/call-ends.js';
import { CallRows } from './call-rows.js';
import { HistoryKeeper } from './history.keeper.js';
import { HistoryMetrics } from './history-metrics.js';
import { HistoryRepository, type KeptPayload, SegmentGone, type WrittenCalls } from './history.repository.js';
import { Minutes } from './minutes.js';
import { redacted, redactedJson } from './redaction.js';

const WRITE_MS = 500;
/** What may wait to be written: some seconds of calls that come as fast as they can, in ten megabytes. */
const MOST_PENDING = 50_000;
const MOST_PENDING_BYTES = 16 * 1024 * 1024;
/** Calls that are not left waiting until the next time. */
const AT_ONCE = MOST_PENDING / 10;
const LAST_WRITE_MS = 3_000;

/** What a call's function wants kept of it. */
interface Unredacted {
  readonly id: string;
  readonly exchanged: Exchanged;
}

/** Writes calls to the history some time after they have ended. No call ever waits for it. */
@Injectable()
export class HistoryRecorder implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly pending = new CallRows();
  private readonly minutes = new Minutes();
  private payloads: Unredacted[] = [];
  private pendingBytes = 0;
  private newestId = '';
  /** What is being written, and is tried again as it is. */
  private batch: WrittenCalls | undefined;
  /** Nobody knows what became of the last try. */
  private isInDoubt = false;
  private writing: Promise<void> | undefined;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    ends: CallEnds,
    private readonly repository: HistoryRepository,
    private readonly keeper: HistoryKeeper,
    private readonly metrics: HistoryMetrics,
    @Inject(HISTORY_CONFIG) private readonly config: Pick<HistoryConfig, 'isOn' | 'payloadBytes'>,
    @InjectPinoLogger(HistoryRecorder.name) private readonly logger: PinoLogger,
  ) {
    if (config.isOn) ends.listen(this.note);
    metrics.askForPending(() => this.waiting);
  }

  onApplicationBootstrap(): void {
    if (this.config.isOn) this.timer = setInterval(() => void this.write(), WRITE_MS).unref();
  }

  async onApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.settled(LAST_WRITE_MS);
    this.metrics.drop('pending_full', this.waiting);
  }

  /** Resolves when what has ended by now is written, or after this time. */
  async settled(ms: number): Promise<void> {
    if (this.waiting === 0) return;
    await within('writing the history', { ms }, () => this.write()).catch(() => undefined);
  }

  private get waiting(): number {
    return this.pending.count + (this.batch?.count ?? 0);
  }

  private readonly note = (call: EndedCall): void => {
    // A call for later that no worker could be given waits on, and its own row says why.
    if (call.attemptOf !== undefined && call.timing.sentAt === 0) return;
    // Sums cost next to nothing, and are right whatever is left out.
    this.minutes.add(call, Date.now());
    if (this.keeper.isFull) this.metrics.drop('history_full');
    else if (this.pending.count >= MOST_PENDING) this.metrics.drop('pending_full');
    else {
      this.pending.add(call);
      this.newestId = call.id;
      if (call.exchanged !== undefined) this.keep(call.id, call.exchanged);
      if (this.pending.count === AT_ONCE && this.writing === undefined) setImmediate(() => void this.write());
    }
  };

  private keep(id: string, { body, result, redact }: Exchanged): void {
    const { payloadBytes } = this.config;
    if (body.length > payloadBytes) return;
    const kept = result !== undefined && result.length <= payloadBytes ? result : undefined;
    const bytes = body.length + (kept?.length ?? 0);
    if (this.pendingBytes + bytes > MOST_PENDING_BYTES) {
      this.metrics.dropPayload();
      return;
    }
    this.pendingBytes += bytes;
    // Not the piece of memory that they are a part of.
    this.payloads.push({ id, exchanged: { body: Buffer.from(body), result: kept && Buffer.from(kept), redact } });
  }

  private write(): Promise<void> {
    return (this.writing ??= this.writeAll().finally(() => (this.writing = undefined)));
  }

  /** Never throws. A batch that the database can't take now is tried again by the next one who writes. */
  private async writeAll(): Promise<void> {
    while (this.waiting > 0) {
      this.batch ??= this.nextBatch();
      const { count, anyId } = this.batch;
      try {
        const isWritten = this.isInDoubt && (await this.repository.has(anyId));
        const rows = isWritten ? 0 : await this.repository.write(this.batch);
        this.metrics.written.inc(count);
        this.keeper.noteRows(rows);
      } catch (error) {
        this.metrics.fail('write');
        if (isPassing(error)) {
          this.isInDoubt = true;
          this.logger.debug({ reason: (error as Error).message, waiting: this.waiting }, 'history not written');
          return;
        }
        this.metrics.drop('refused', count);
        this.logger.error({ err: error, calls: count }, 'calls could not be written to the history');
      }
      this.batch = undefined;
      this.isInDoubt = false;
    }
  }

  private nextBatch(): WrittenCalls {
    const payloads = this.payloads.flatMap((one) => redactedOf(one));
    this.payloads = [];
    this.pendingBytes = 0;
    const { count } = this.pending;
    return { rows: this.pending.take(), count, anyId: this.newestId, minutes: this.minutes.take(), payloads };
  }
}

function redactedOf({ id, exchanged: { body, result, redact } }: Unredacted): KeptPayload[] {
  try {
    const { payload } = JSON.parse(body.toString()) as { readonly payload: string };
    const { text, isChanged } = redacted(payload, redact);
    const shown = result && Buffer.from(redactedJson(result.toString(), redact));
    return [{ id, payload: Buffer.from(text), isRedacted: isChanged, result: shown ?? null }];
  } catch {
    // What is nested too deep to be looked through isn't kept.
    return [];
  }
}

/** The database is away or too slow, a lock wasn't got in time, or there was a deadlock. */
function isPassing(error: unknown): boolean {
  const { code } = error as { readonly code?: unknown };
  if (error instanceof DatabaseUnavailable || error instanceof SegmentGone) return true;
  return typeof code === 'string' && /^(57...|55P03|40...|53...)$/.test(code);
}
