import { Injectable } from '@nestjs/common';
import { FunctionNotFound } from '../functions/errors.js';
import { FunctionRepository } from '../functions/function.repository.js';
import type { KeptCall, KeptCallWithPayload } from './call.js';
import { type StatisticsDto, statisticsOf } from './dto.js';
import { HistoryRecorder } from './history.recorder.js';
import { type CallFilter, HistoryRepository, type Scanned } from './history.repository.js';
import { windowOf } from './statistics-query.js';

/** What has ended here is written before it is looked for, unless the database is slow. */
const SETTLE_MS = 1_000;
const MOST_ATTEMPTS_SHOWN = 100;

/** Tells of calls that have ended. */
@Injectable()
export class HistoryService {
  constructor(
    private readonly repository: HistoryRepository,
    private readonly recorder: HistoryRecorder,
    private readonly functions: FunctionRepository,
  ) {}

  /** Of a function that is there. */
  async list(functionId: string, filter: CallFilter): Promise<Scanned<KeptCall>> {
    await this.recorder.settled(SETTLE_MS);
    return this.repository.list(functionId, filter);
  }

  async runs(filter: CallFilter): Promise<Scanned<KeptCall>> {
    await this.recorder.settled(SETTLE_MS);
    return this.repository.runs(filter);
  }

  /** A run, or a call of a function that is there; null: there is none, or no more. */
  async find(id: string): Promise<KeptCallWithPayload | null> {
    await this.recorder.settled(SETTLE_MS);
    const found = await this.repository.find(id);
    if (found === null || found.kind === 'run') return found;
    const row = await this.functions.find(found.functionId);
    return row === null || row.deletedAt !== null ? null : found;
  }

  /** The attempts of a call for later, the newest first. */
  async attempts(invocation: string): Promise<KeptCall[]> {
    await this.recorder.settled(SETTLE_MS);
    return this.repository.attempts(invocation, MOST_ATTEMPTS_SHOWN);
  }

  async statistics(reference: string, query: Readonly<Record<string, unknown>>): Promise<StatisticsDto> {
    const now = Date.now();
    const window = windowOf(query, now);
    const row = await this.functions.findBy(reference);
    if (row === null || row.deletedAt !== null) throw new FunctionNotFound(reference);
    await this.recorder.settled(SETTLE_MS);
    const [counts, oldest] = await Promise.all([
      this.repository.counts(row.id, window.revision, window),
      this.repository.oldestSum(),
    ]);
    return statisticsOf(row.id, window, counts, { now, oldest });
  }
}
