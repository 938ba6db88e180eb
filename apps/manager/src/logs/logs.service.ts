import { DeadlinePassed, within } from '#libs/deadlines/within.js';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import { followLines, newestLines } from '#libs/orchestrator/function-log.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import type { LogLine, ReplicaLog } from '#libs/orchestrator/replica-log.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Injectable } from '@nestjs/common';
import type { Request, Response } from 'express';
import { FunctionChanges } from '../functions/function-changes.js';
import { FunctionNotFound } from '../functions/errors.js';
import { FunctionRepository } from '../functions/function.repository.js';
import { FunctionsService } from '../functions/functions.service.js';
import { MemoryBudget, type MemoryReservation } from '../memory/memory-budget.js';
import { DepartedLogsRepository } from './departed-logs.repository.js';
import { Followers } from './followers.js';
import { type LogQuery, logQueryOf, MOST_TAIL } from './log-query.js';
import { recordOf } from './log-record.js';
import { NewestRecords } from './newest-records.js';
import { EVENT_STREAM, NDJSON, RecordStream } from './record-stream.js';

/** What reading the newest lines may take, of however many replicas. */
const LONGEST_READ_MS = 20_000;
/** A follower looks for new replicas after a change of its function, and so often without one. */
const LOOK_AGAIN_MS = 3_000;

/** What an answer has begun with. */
interface Newest extends ReturnType<NewestRecords['with']> {
  /** The time of the last line that was read of each replica. */
  readonly after: ReadonlyMap<string, string>;
}

/** Reads and follows the logs of functions: those of the engine, and what is kept of replicas that are gone. */
@Injectable()
export class LogsService {
  readonly followers = new Followers();
  private readonly leaving = new AbortController();

  constructor(
    private readonly functions: FunctionsService,
    private readonly repository: FunctionRepository,
    private readonly changes: FunctionChanges,
    private readonly departed: DepartedLogsRepository,
    private readonly orchestrator: Orchestrator,
    private readonly memory: MemoryBudget,
  ) {}

  /** Answers with records as they come, and resolves when that is over. Throws only before the answer has begun. */
  async answer(id: string, given: Record<string, unknown>, request: Request, response: Response): Promise<void> {
    const isEventStream = request.accepts([NDJSON, EVENT_STREAM]) === EVENT_STREAM;
    const query = logQueryOf(given, { isEventStream, lastEventId: request.get('Last-Event-ID') });
    const { id: functionId } = await this.functions.find(id);
    const isFollowing = query.follow && request.method !== 'HEAD';
    const signal = goneSignal(request, response, isFollowing);
    using _place = isFollowing ? this.followers.add(functionId) : undefined;
    const reservation = this.memory.reserve();
    response.once('close', () => reservation[Symbol.dispose]());
    const newest = await this.newest(functionId, query, reservation, signal);
    if (signal.aborted) return void response.end();
    const stream = new RecordStream(response, isEventStream);
    try {
      if (request.method === 'HEAD') return;
      const { missed, records } = newest;
      if (missed > 0) await stream.write({ missed });
      for (const record of records.splice(0)) {
        if (signal.aborted) return;
        await stream.write(record);
      }
      reservation[Symbol.dispose]();
      if (isFollowing)
        await this.follow(functionId, query, newest.after, stream, AbortSignal.any([signal, this.leaving.signal]));
    } finally {
      stream.end();
    }
  }

  /** Ends all followers, as at shutdown. */
  release(): void {
    this.leaving.abort();
  }

  private async newest(
    functionId: FunctionId,
    query: LogQuery,
    reservation: MemoryReservation,
    signal: AbortSignal,
  ): Promise<Newest> {
    try {
      const bounds = { ms: LONGEST_READ_MS, signal };
      return await within('reading the log', bounds, (bounded) => this.read(functionId, query, reservation, bounded));
    } catch (error) {
      if (signal.aborted) return { missed: 0, records: [], after: new Map() };
      if (!(error instanceof DeadlinePassed)) throw error;
      throw new OrchestratorUnavailable(this.orchestrator.engine, `no log in ${LONGEST_READ_MS} ms`, error);
    }
  }

  /** The engine is asked before the database: a replica that goes meanwhile is then in either. */
  private async read(
    functionId: FunctionId,
    query: LogQuery,
    reservation: MemoryReservation,
    signal: AbortSignal,
  ): Promise<Newest> {
    const { tail, since } = query;
    const newest = new NewestRecords(tail, (characters) => reservation.add(characters));
    const after = new Map<string, string>();
    const isFiltered = query.requestId !== undefined || query.source !== undefined;
    const logs = await this.logs(functionId, query, signal);
    for await (const line of newestLines(logs, { tail: isFiltered ? MOST_TAIL : Math.max(1, tail), since, signal })) {
      if (line.time > (after.get(line.replica) ?? '')) after.set(line.replica, line.time);
      const record = recordOf(line);
      if (isWanted(record, query)) newest.add(record);
    }
    const earlier = (await this.departed.of(functionId))
      .filter((line) => isOf(line, query) && line.time >= (since ?? '') && !after.has(line.replica))
      .map(recordOf)
      .filter((record) => isWanted(record, query));
    return { ...newest.with(earlier), after };
  }

  private async follow(
    functionId: FunctionId,
    query: LogQuery,
    after: ReadonlyMap<string, string>,
    stream: RecordStream,
    signal: AbortSignal,
  ): Promise<void> {
    const removed = new AbortController();
    const following = {
      list: (listing: AbortSignal) => this.logs(functionId, query, listing),
      after,
      since: query.since,
      accepts: (line: LogLine) => isWanted(recordOf(line), query),
      nextLook: async (looking: AbortSignal) => {
        await this.change(functionId, looking);
        if (!looking.aborted && (await this.isGone(functionId))) removed.abort();
      },
      signal: AbortSignal.any([signal, removed.signal]),
    };
    for await (const item of followLines(following)) {
      await stream.write('missed' in item ? item : recordOf(item));
    }
  }

  private async logs(functionId: FunctionId, query: LogQuery, signal: AbortSignal): Promise<ReplicaLog[]> {
    const ids = await this.repository.idsOf(functionId);
    const logs = await Promise.all(ids.map((id) => this.orchestrator.logs(id, signal)));
    return logs.flat().filter((log) => isOf(log, query));
  }

  /** Resolves at the function's next change, or after a while. */
  private async change(functionId: FunctionId, signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const unsubscribe = this.changes.subscribe((id) => {
      if (id === undefined || id === functionId) resolve();
    });
    const timer = setTimeout(resolve, LOOK_AGAIN_MS);
    const wake = () => resolve();
    signal.addEventListener('abort', wake, { once: true });
    if (!signal.aborted) await promise;
    signal.removeEventListener('abort', wake);
    clearTimeout(timer);
    unsubscribe();
  }

  private async isGone(functionId: FunctionId): Promise<boolean> {
    try {
      await this.functions.find(functionId);
      return false;
    } catch (error) {
      return error instanceof FunctionNotFound;
    }
  }
}

/**
 * Aborts when the client has gone. One that follows and has closed its sending side counts as gone: in TCP both look the
 * same until something is sent, which may be never.
 */
function goneSignal(request: Request, response: Response, isFollowing: boolean): AbortSignal {
  const gone = new AbortController();
  const { socket } = request;
  const leave = () => gone.abort();
  response.once('close', () => {
    socket.off('end', leave);
    leave();
  });
  if (isFollowing) socket.once('end', leave);
  if (response.destroyed || (isFollowing && socket.readableEnded)) leave();
  return gone.signal;
}

function isOf({ replica, revision }: Pick<ReplicaLog, 'replica' | 'revision'>, query: LogQuery): boolean {
  return (query.replica ?? replica) === replica && (query.revision === undefined || query.revision === revision);
}

function isWanted({ request_id: id, source }: ReturnType<typeof recordOf>, query: LogQuery): boolean {
  return (query.requestId === undefined || query.requestId === id) && (query.source ?? source) === source;
}
