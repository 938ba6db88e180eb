import type { ScaleConfig } from '#libs/config/config.js';
import { SCALE_CONFIG } from '#libs/config/config.module.js';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { type Demand, DemandRepository } from '../scaling/demand.repository.js';
import { DemandMeter } from '../scaling/demand-meter.js';
import { type Route, Router } from './router.js';

const READ_MS = 250;
/** How often demand is written while there is any; when calls wait, at every reading. */
const WRITE_MS = 1_000;
/** How often the time of the last use is written, or four times in an idle time where that is more often. */
const USE_MS = 5_000;

interface Record {
  readonly meter: DemandMeter;
  /** `performance.now()` milliseconds. */
  writtenAt: number;
  /** `Date.now()` milliseconds, as a route's last use is. */
  touchedAt: number;
}

/** Samples how many calls each function has in this manager, and writes it down for the autoscaler. */
@Injectable()
export class DemandRecorder implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly records = new Map<FunctionId, Record>();
  private timer: NodeJS.Timeout | undefined;
  private writing = false;

  constructor(
    private readonly router: Router,
    private readonly demands: DemandRepository,
    @Inject(SCALE_CONFIG) private readonly config: Pick<ScaleConfig, 'downWindowMs'>,
    @InjectPinoLogger(DemandRecorder.name) private readonly logger: PinoLogger,
  ) {}

  onApplicationBootstrap(): void {
    this.timer = setInterval(() => void this.read(performance.now()), READ_MS);
  }

  onApplicationShutdown(): void {
    clearInterval(this.timer);
  }

  private async read(now: number): Promise<void> {
    const demands: Demand[] = [];
    const used: FunctionId[] = [];
    for (const route of this.router.known()) {
      const record = this.recordOf(route, now);
      if (record === undefined) continue;
      record.meter.read(callsOf(route), now);
      // One statement at a time: a slow database must not get more and more of them.
      if (this.writing) continue;
      if (isUseDue(route, record)) used.push(route.id);
      if (isDemandDue(route, record, now)) demands.push(demandOf(route, record));
    }
    // Functions may be removed while they have demand.
    for (const id of this.records.keys()) if (!this.router.has(id)) this.records.delete(id);
    await this.write(demands, used, now);
  }

  /** A function has a record while it is called, and until its demand has faded. */
  private recordOf(route: Route, now: number): Record | undefined {
    const known = this.records.get(route.id);
    if (callsOf(route) === 0 && !isUsedSince(route, known?.touchedAt ?? Date.now() - 2 * READ_MS)) {
      if (known === undefined || !known.meter.isStill) return known;
      this.records.delete(route.id);
      return undefined;
    }
    if (known !== undefined) return known;
    const record = {
      meter: new DemandMeter(now - READ_MS, this.config.downWindowMs),
      writtenAt: -Infinity,
      // What has no replica yet is being woken, which notes the use too.
      touchedAt: route.pool.isEmpty ? Date.now() : -Infinity,
    };
    this.records.set(route.id, record);
    return record;
  }

  /** After a failure the next reading is written instead. */
  private async write(demands: readonly Demand[], used: readonly FunctionId[], now: number): Promise<void> {
    if (demands.length + used.length === 0) return;
    const touchedAt = Date.now();
    this.writing = true;
    try {
      if (used.length > 0) await this.demands.touch(used);
      for (const id of used) this.change(id, { touchedAt });
      if (demands.length > 0) await this.demands.record(demands);
      for (const { id } of demands) this.change(id, { writtenAt: now });
    } catch (error) {
      this.report(error, 'could not write demand');
    } finally {
      this.writing = false;
    }
  }

  private change(id: FunctionId, changes: Partial<Pick<Record, 'touchedAt' | 'writtenAt'>>): void {
    Object.assign(this.records.get(id) ?? {}, changes);
  }

  private report(error: unknown, message: string): void {
    if (error instanceof DatabaseUnavailable) this.logger.debug({ reason: error.message }, message);
    else this.logger.error({ err: error }, message);
  }
}

function callsOf({ pool }: Route): number {
  return pool.inFlight + pool.waiting;
}

function isUsedSince({ lastUsed }: Route, moment: number): boolean {
  return lastUsed > moment;
}

function isUseDue(route: Route, { touchedAt }: Record): boolean {
  const every = route.idleTimeoutMs > 0 ? Math.min(USE_MS, route.idleTimeoutMs / 4) : USE_MS;
  return (callsOf(route) > 0 || isUsedSince(route, touchedAt)) && Date.now() - touchedAt >= every;
}

/** Demand changes nothing for a function with a fixed number of replicas, nor for one that has no replica yet. */
function isDemandDue(route: Route, { meter, writtenAt }: Record, now: number): boolean {
  if (route.isFixed || meter.isStill || route.pool.isEmpty) return false;
  return now - writtenAt >= (route.pool.waiting > 0 ? READ_MS : WRITE_MS);
}

function demandOf({ id }: Route, { meter }: Record): Demand {
  return { id, callsNow: meter.callsNow, callsLately: meter.callsLately };
}
