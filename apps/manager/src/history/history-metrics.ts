import { Metrics } from '#libs/observability/metrics.js';
import { Injectable } from '@nestjs/common';
import { Counter, Gauge } from 'prom-client';
import type { Segment } from './segments.js';

/** Why a call isn't in the history. */
export type DropReason = 'pending_full' | 'history_full' | 'refused' | 'shutdown';

/** How the history is written and kept. */
@Injectable()
export class HistoryMetrics {
  readonly written: Counter;
  private readonly dropped: Counter<'reason'>;
  private readonly unkept: Counter;
  private readonly faults: Counter<'what'>;
  private readonly calls: Gauge;
  private readonly bytes: Gauge;
  private readonly oldest: Gauge;
  protected readonly waiting: Gauge;
  private pending: () => number = () => 0;

  constructor({ registry }: Metrics) {
    const registers = [registry];
    this.written = new Counter({
      name: 'faas_history_written_total',
      help: 'Calls written to the history.',
      registers,
    });
    this.dropped = new Counter({
      name: 'faas_history_dropped_total',
      help: 'Calls that are missing in the history: too many waited to be written, it had no room for them, the database refused them, or the manager ended before.',
      labelNames: ['reason'],
      registers,
    });
    this.unkept = new Counter({
      name: 'faas_history_payloads_unkept_total',
      help: 'Payloads that were to be kept and were not: too large, nested too deep, or too many waited to be written.',
      registers,
    });
    this.faults = new Counter({
      name: 'faas_history_faults_total',
      help: 'What failed: writing calls, making a segment, dropping one, or adding a call to the sums.',
      labelNames: ['what'],
      registers,
    });
    const gauge = (name: string, help: string) => new Gauge({ name, help, registers, aggregator: 'max' });
    this.calls = gauge('faas_history_calls', 'Calls in the history, of the whole installation.');
    this.bytes = gauge('faas_history_bytes', 'What the history takes of the database.');
    this.oldest = gauge('faas_history_oldest_seconds', 'How long ago the oldest segment of the history was begun.');
    const pending = () => this.pending();
    this.waiting = new Gauge({
      name: 'faas_history_pending',
      help: 'Calls that wait to be written to the history.',
      registers,
      collect() {
        this.set(pending());
      },
    });
    for (const reason of ['pending_full', 'history_full', 'refused', 'shutdown'] as const)
      this.dropped.inc({ reason }, 0);
    for (const what of ['write', 'open', 'drop', 'add'] as const) this.faults.inc({ what }, 0);
  }

  /** How many wait is asked for at each reading. */
  askForPending(count: () => number): void {
    this.pending = count;
  }

  drop(reason: DropReason, count = 1): void {
    this.dropped.inc({ reason }, count);
  }

  dropPayload(): void {
    this.unkept.inc();
  }

  fail(what: 'write' | 'open' | 'drop' | 'add'): void {
    this.faults.inc({ what });
  }

  look(segments: readonly Segment[], now: number): void {
    this.calls.set(segments.reduce((sum, { rows }) => sum + rows, 0));
    this.bytes.set(segments.reduce((sum, { bytes }) => sum + bytes, 0));
    const oldest = Math.min(
      ...segments.filter(({ family }) => family === 'calls').map(({ openedAt }) => openedAt.getTime()),
    );
    if (oldest !== Infinity) this.oldest.set(Math.max(0, (now - oldest) / 1_000));
  }
}
