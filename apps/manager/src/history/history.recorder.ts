import type { HistoryConfig } from '#libs/config/config.js';
import { HISTORY_CONFIG } from '#libs/config/config.module.js';
import { isPassing } from '#libs/database/connection-fault.js';
import { within } from '#libs/deadlines/within.js';
import { isLongerThan, LONGEST_ESCAPE, longestString, PARSED_BYTES } from '#libs/json/json-scan.js';
import { randomUUID } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { REDACTED } from '../functions/dto/history-setting.dto.js';
import { CallEnds, type EndedCall, type Exchanged } from '../gateway/call-ends.js';
import { CallRows, LONGEST, Rows } from './call-rows.js';
import { HistoryKeeper } from './history.keeper.js';
import { HistoryMetrics } from './history-metrics.js';
import { HistoryRepository, type KeptPayload, SegmentGone, type WrittenCalls } from './history.repository.js';
import { Minutes } from './minutes.js';
import { masked, redacted, redactedJson } from './redaction.js';

const WRITE_MS = 500;
/** What may wait to be written: some seconds of calls that come as fast as they can, in ten megabytes. */
const MOST_PENDING = 50_000;
/** Of rows, and as many of payloads. */
const MOST_PENDING_BYTES = 16 * 1024 * 1024;
/**
 * So many calls are noted at a time, which costs each a third of what it does alone: between one call and the next all
 * that noting needs has left the processor's caches.
 */
const NOTED_AT_ONCE = 64;
/** Calls that are not left waiting until the next time, and the most that are written at once. */
const AT_ONCE = MOST_PENDING / 10;
/** Of payloads; and so much of them is looked through before others have their turn. */
const BYTES_AT_ONCE = 1024 * 1024;
const BYTES_PER_TURN = 64 * 1024;
/** What stands around a result as the worker has answered it. */
const AROUND_RESULT = '{"result":}'.length;
const MINUTES_AT_ONCE = 1_000;
const LAST_WRITE_MS = 3_000;

/** What a call's function wants kept of it. */
interface Unredacted extends Pick<KeptPayload, 'id' | 'row'> {
  readonly exchanged: Exchanged;
}

/** Calls that are written at once, with what is kept of them. */
interface Calls {
  readonly rows: Rows;
  readonly payloads: readonly Unredacted[];
}

/** Writes calls to the history some time after they have ended. No call ever waits for it. */
@Injectable()
export class HistoryRecorder implements OnApplicationBootstrap, OnApplicationShutdown {
  private noted: EndedCall[] = [];
  private readonly pending = new CallRows();
  private readonly minutes = new Minutes();
  private payloads: Unredacted[] = [];
  private payloadsSize = 0;
  /** Those that wait for their turn, the oldest first. */
  private readonly full: Calls[] = [];
  /** What is being written. It is tried again as it is, or in parts. */
  private readonly ready: WrittenCalls[] = [];
  /** All that waits, or is being written. */
  private waiting = 0;
  private waitingBytes = 0;
  private waitingPayloadBytes = 0;
  private readonly writer = randomUUID();
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
    metrics.askForPending(() => this.waiting + this.noted.length);
  }

  onApplicationBootstrap(): void {
    if (this.config.isOn) this.timer = setInterval(() => void this.write(), WRITE_MS).unref();
  }

  async onApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.settled(LAST_WRITE_MS);
    this.addNoted();
    if (this.waiting === 0) return;
    this.metrics.drop('shutdown', this.waiting);
    this.logger.warn({ calls: this.waiting }, 'the last calls could not be written to the history');
  }

  /** Resolves when what has ended by now is written, as far as the database takes it, or after this time. */
  async settled(ms: number): Promise<void> {
    this.addNoted();
    if (this.waiting === 0 && this.minutes.size === 0 && this.ready.length === 0) return;
    await within('writing the history', { ms }, async () => {
      // What is being written may have been taken before.
      if (this.writing !== undefined) await this.writing;
      await this.write();
    }).catch(() => undefined);
  }

  private readonly note = (call: EndedCall): void => {
    // What is kept of a call is a part of larger buffers, which would stay in memory with it.
    if (this.noted.push(call) >= NOTED_AT_ONCE || call.exchanged !== undefined) this.addNoted();
  };

  /** Never throws: no call is to fail for its record. */
  private addNoted(): void {
    const { noted } = this;
    if (noted.length === 0) return;
    this.noted = [];
    const epoch = Date.now() - performance.now();
    for (const call of noted) {
      try {
        this.add(call, epoch);
      } catch (error) {
        this.metrics.drop('refused');
        this.logger.error({ err: error, id: call.id }, 'a call could not be noted for the history');
      }
    }
  }

  /** @param epoch milliseconds since the epoch when `performance.now()` was 0 */
  private add(call: EndedCall, epoch: number): void {
    const { attemptOf } = call;
    // A call for later that no worker could be given waits on, and its own row says why.
    if (attemptOf !== undefined && call.timing.sentAt === 0) return;
    if (attemptOf?.isGivenBack === true && call.code !== undefined) return;
    // Sums cost next to nothing, and are right whatever is left out.
    if (!this.minutes.add(call, epoch + call.endedAt)) this.metrics.fail('add');
    if (this.keeper.isFull) return this.metrics.drop('history_full');
    if (this.waiting >= MOST_PENDING || this.waitingBytes >= MOST_PENDING_BYTES)
      return this.metrics.drop('pending_full');
    const { pending } = this;
    const before = pending.size;
    const detail = call.detail && masked(call.detail.slice(0, LONGEST), call.timing.keeps?.redact ?? REDACTED);
    pending.add(detail === call.detail ? call : { ...call, detail });
    this.waiting += 1;
    this.waitingBytes += pending.size - before;
    if (call.exchanged !== undefined) this.keep(call.id, call.exchanged);
    if (pending.count < AT_ONCE && this.payloadsSize < BYTES_AT_ONCE) return;
    this.close();
    if (this.writing === undefined && this.full.length === 1) setImmediate(() => void this.write());
  }

  private keep(id: string, { body, result, redact }: Exchanged): void {
    const { payloadBytes } = this.config;
    const kept = result !== undefined && result.length - AROUND_RESULT <= payloadBytes ? result : undefined;
    const bytes = body.length + (kept?.length ?? 0);
    if (this.waitingPayloadBytes + bytes > MOST_PENDING_BYTES || !hasAtMost(body, payloadBytes)) {
      this.metrics.dropPayload();
      return;
    }
    this.payloadsSize += bytes;
    this.waitingPayloadBytes += bytes;
    // Not the piece of memory that they are a part of.
    const exchanged = { body: Buffer.from(body), result: kept && Buffer.from(kept), redact };
    this.payloads.push({ id, row: this.pending.count - 1, exchanged });
  }

  /** What comes from now on is written another time. */
  private close(): void {
    if (this.pending.count === 0) return;
    this.full.push({ rows: this.pending.take(), payloads: this.payloads });
    this.payloads = [];
    this.payloadsSize = 0;
  }

  private write(): Promise<void> {
    return (this.writing ??= this.writeAll().finally(() => {
      this.writing = undefined;
      if (this.ready.length === 0 && this.full.length > 0) setImmediate(() => void this.write());
    }));
  }

  /** Writes what waits by now. Never throws. What the database can't take now is tried again by the next who writes. */
  private async writeAll(): Promise<void> {
    this.addNoted();
    this.close();
    let left = Math.max(this.full.length, Math.ceil(this.minutes.size / MINUTES_AT_ONCE));
    while (left > 0 || this.ready.length > 0) {
      if (this.ready.length === 0) {
        this.ready.push(await this.next());
        left -= 1;
      }
      const [batch] = this.ready as [WrittenCalls];
      const { count, size } = batch.rows;
      try {
        const rows = await this.repository.write(batch, this.writer);
        this.metrics.written.inc(count);
        this.keeper.noteWritten(rows, size + sizeOf(batch.payloads));
        this.ready.shift();
        this.release(batch);
      } catch (error) {
        this.metrics.fail('write');
        if (error instanceof SegmentGone || isPassing(error)) {
          this.logger.debug({ reason: (error as Error).message, waiting: this.waiting }, 'history not written');
          return;
        }
        const parts = partsOf(batch);
        this.ready.splice(0, 1, ...parts);
        if (parts.length === 0) {
          this.release(batch);
          this.metrics.drop('refused', count);
          this.logger.error({ err: error, calls: count }, 'calls could not be written to the history');
        }
      }
    }
  }

  private release({ rows, payloads }: WrittenCalls): void {
    this.waiting -= rows.count;
    this.waitingBytes -= rows.size;
    this.waitingPayloadBytes -= sizeOf(payloads);
  }

  private async next(): Promise<WrittenCalls> {
    const { rows, payloads } = this.full.shift() ?? { rows: Rows.NONE, payloads: [] };
    const kept: KeptPayload[] = [];
    let looked = 0;
    for (const one of payloads) {
      const shown = redactedOf(one);
      if (shown === undefined) this.metrics.dropPayload();
      else kept.push(shown);
      const bytes = sizeOf([{ payload: one.exchanged.body, result: one.exchanged.result }]);
      this.waitingPayloadBytes += (shown === undefined ? 0 : sizeOf([shown])) - bytes;
      looked += bytes;
      if (looked < BYTES_PER_TURN) continue;
      looked = 0;
      await turn();
    }
    return { id: randomUUID(), rows, payloads: kept, minutes: this.minutes.take(MINUTES_AT_ONCE) };
  }
}

/** What may be written where all of it is refused: a row costs no other ones, nor what they add up to. */
function partsOf({ rows, minutes, payloads }: WrittenCalls): WrittenCalls[] {
  const { count } = rows;
  if (count > 0 && minutes.length > 0) {
    return [
      { id: randomUUID(), rows, minutes: [], payloads },
      { id: randomUUID(), rows: Rows.NONE, minutes, payloads: [] },
    ];
  }
  if (count < 2) return [];
  const half = Math.ceil(count / 2);
  const part = (from: number, to: number) => ({
    id: randomUUID(),
    rows: rows.slice(from, to),
    minutes: [],
    payloads: payloads.filter(({ row }) => row >= from && row < to).map((one) => ({ ...one, row: one.row - from })),
  });
  return [part(0, half), part(half, count)];
}

function sizeOf(payloads: readonly { readonly payload: Buffer | null; readonly result?: Buffer | null | undefined }[]) {
  return payloads.reduce((sum, { payload, result }) => sum + (payload?.length ?? 0) + (result?.length ?? 0), 0);
}

/** Whether no text in a call's body, its payload, has more bytes than that. */
function hasAtMost(body: Buffer, payloadBytes: number): boolean {
  if (body.length <= payloadBytes) return true;
  if (body.length > payloadBytes * LONGEST_ESCAPE + PARSED_BYTES) return false;
  const long = longestString(body);
  return typeof long !== 'string' && !isLongerThan(payloadBytes, body, long);
}

/** Undefined: what is nested too deep to be looked through isn't kept. */
function redactedOf({ id, row, exchanged: { body, result, redact } }: Unredacted): KeptPayload | undefined {
  try {
    const { payload } = JSON.parse(body.toString()) as { readonly payload: string };
    const { text, isChanged } = redacted(payload, redact);
    const shown = result && Buffer.from(redactedJson(result.toString(), redact));
    // A lone surrogate is no UTF-8.
    const isRedacted = isChanged || !payload.isWellFormed();
    return { id, row, payload: Buffer.from(text), isRedacted, result: shown ?? null };
  } catch {
    return undefined;
  }
}
