import type { InvocationsConfig } from '#libs/config/config.js';
import { INVOCATIONS_CONFIG } from '#libs/config/config.module.js';
import { Repeating } from '#libs/deadlines/repeating.js';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { DAY_MS, type DayPartition, partitionOf } from './days.js';
import { InvocationRepository } from './invocation.repository.js';
import { InvocationStorage } from './invocation.storage.js';

/** What is late by this much has waited for long. */
const EXPIRE_EVERY_MS = 30_000;
const STORAGE_EVERY_MS = 10 * 60_000;
/** Partitions are made ahead, also for managers whose clock is wrong by hours. */
const DAYS_AHEAD = 2;
/** So that a statement more or less doesn't matter to anybody else. */
const MOST_ROUNDS = 100;

/** Gives up calls that waited too long, makes partitions for the days to come, and forgets what is past its time. */
@Injectable()
export class InvocationKeeper implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly givingUp = new Repeating(EXPIRE_EVERY_MS, (signal) => this.giveUp(signal));
  private readonly keeping = new Repeating(STORAGE_EVERY_MS, (signal) => this.reported(() => this.keepStorage(signal)));
  /** Partitions that couldn't be made were told of once. */
  private isWarned = false;

  constructor(
    private readonly repository: InvocationRepository,
    private readonly storage: InvocationStorage,
    @Inject(INVOCATIONS_CONFIG) private readonly config: Pick<InvocationsConfig, 'retentionMs'>,
    @InjectPinoLogger(InvocationKeeper.name) private readonly logger: PinoLogger,
  ) {}

  /** The first partitions are there before the first call: they can't be made once the default one has calls of theirs. */
  async onApplicationBootstrap(): Promise<void> {
    await this.reported(() => this.makePartitions());
    this.givingUp.start('now');
    this.keeping.start('now');
  }

  async onApplicationShutdown(): Promise<void> {
    await Promise.all([this.givingUp.stop(), this.keeping.stop()]);
  }

  private async giveUp(signal: AbortSignal): Promise<void> {
    await this.reported(() => this.again(signal, () => this.repository.expire()));
    await this.reported(() => this.again(signal, () => this.storage.forgetFunctions()));
  }

  private async again(signal: AbortSignal, work: () => Promise<number>): Promise<void> {
    for (let round = 0; round < MOST_ROUNDS && !signal.aborted; round += 1) if ((await work()) === 0) return;
  }

  private async makePartitions(): Promise<void> {
    const now = Date.now();
    const days = Array.from({ length: DAYS_AHEAD + 2 }, (_, index) => new Date(now + (index - 1) * DAY_MS));
    const reason = await this.storage.ensure(days);
    if (reason !== undefined && !this.isWarned) {
      this.logger.warn({ reason }, 'a partition for calls for later could not be made: the default one takes them');
    }
    this.isWarned = reason !== undefined;
  }

  private async keepStorage(signal: AbortSignal): Promise<void> {
    await this.makePartitions();
    const { retentionMs } = this.config;
    // What came on this day or later goes with all of its day.
    const { day: before } = partitionOf(new Date(Date.now() - retentionMs));
    for (const partition of await this.storage.partitions()) {
      if (partition.day >= before || signal.aborted) break;
      await this.reported(() => this.drop(partition));
    }
    await this.again(signal, () => this.storage.forget(before, retentionMs));
    await this.again(signal, () => this.storage.forgetKeys(retentionMs));
  }

  private async drop(partition: DayPartition): Promise<void> {
    if (!(await this.storage.drop(partition, this.config.retentionMs))) return;
    this.logger.info({ day: partition.day.toISOString().slice(0, 10) }, 'calls for later of a day forgotten');
  }

  private async reported(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (error instanceof DatabaseUnavailable)
        this.logger.debug({ reason: error.message }, 'calls for later not kept');
      else this.logger.error({ err: error }, 'calls for later not kept');
    }
  }
}
