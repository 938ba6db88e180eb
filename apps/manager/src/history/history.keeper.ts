import type { HistoryConfig } from '#libs/config/config.js';
import { HISTORY_CONFIG } from '#libs/config/config.module.js';
import { Repeating } from '#libs/deadlines/repeating.js';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { HistoryMetrics } from './history-metrics.js';
import { HistoryStorage } from './history.storage.js';
import { planOf, type Segment } from './segments.js';

const LOOK_MS = 15_000;
/** A segment has about so many parts of what may be kept: its writers look sooner. */
const PARTS = 10;

/** Keeps the history within its bounds: begins new segments, and drops the oldest. */
@Injectable()
export class HistoryKeeper implements OnApplicationBootstrap, OnApplicationShutdown {
  /** Nothing more may be written: no segment can be made or dropped, and what is there is all that may be kept. */
  isFull = false;
  private readonly looking = new Repeating(LOOK_MS, () => this.look());
  private round: Promise<void> | undefined;
  /** Written since the last look. */
  private bytes = 0;
  private isWarned = false;

  constructor(
    private readonly storage: HistoryStorage,
    private readonly metrics: HistoryMetrics,
    @Inject(HISTORY_CONFIG) private readonly config: HistoryConfig,
    @InjectPinoLogger(HistoryKeeper.name) private readonly logger: PinoLogger,
  ) {}

  onApplicationBootstrap(): void {
    this.looking.start('now');
  }

  async onApplicationShutdown(): Promise<void> {
    await this.looking.stop();
    await this.round;
  }

  /** The newest segment has so many calls by now, and so many bytes were written. */
  noteWritten(rows: number, bytes: number): void {
    const { mostRows, mostBytes } = this.config;
    this.bytes += bytes;
    // With its indexes a row takes about twice as much.
    if (rows < mostRows / PARTS && this.bytes * 2 < mostBytes / PARTS) return;
    // What could not be done is tried again at the next look.
    if (!this.isWarned) void this.look();
  }

  /** Never throws. */
  look(): Promise<void> {
    return (this.round ??= this.keep().finally(() => (this.round = undefined)));
  }

  private async keep(): Promise<void> {
    this.bytes = 0;
    try {
      const segments = await this.storage.segments();
      this.metrics.look(segments, Date.now());
      const { open, drop, isFull } = planOf(segments, this.config, Date.now());
      const { fault, dropped } = await this.follow(segments, open, drop);
      this.isFull = fault !== undefined && isFull(dropped);
      if (fault !== undefined && !this.isWarned)
        this.logger.warn({ reason: fault }, 'the history is not kept in order');
      this.isWarned = fault !== undefined;
    } catch (error) {
      if (error instanceof DatabaseUnavailable) this.logger.debug({ reason: error.message }, 'history not kept');
      else this.logger.error({ err: error }, 'history not kept');
    }
  }

  /** Answers why something could not be done, undefined where all of it was, and what has gone. */
  private async follow(
    segments: readonly Segment[],
    open: readonly string[],
    drop: readonly Segment[],
  ): Promise<{ readonly fault: string | undefined; readonly dropped: readonly Segment[] }> {
    let fault: string | undefined;
    const dropped: Segment[] = [];
    const attempt = async (what: 'open' | 'drop', work: () => Promise<void>) => {
      try {
        await work();
      } catch (error) {
        this.metrics.fail(what);
        fault = (error as Error).message;
      }
    };
    for (const family of open) {
      const newest = segments.findLast((segment) => segment.family === family);
      if (newest !== undefined) await attempt('open', () => this.storage.openAfter(newest));
    }
    for (const segment of drop) {
      await attempt('drop', async () => {
        await this.storage.drop(segment);
        dropped.push(segment);
        const { family, number, rows } = segment;
        this.logger.info({ family, segment: number, rows }, 'the oldest part of the history was dropped');
      });
    }
    return { fault, dropped };
  }
}
