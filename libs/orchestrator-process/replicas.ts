import type { ChildProcess } from 'node:child_process';
import { constants } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { within } from '#libs/deadlines/within.js';
import type { Departures } from '#libs/orchestrator/departures.js';
import { exitFault } from '#libs/orchestrator/exit-fault.js';
import { HealthProber } from '#libs/orchestrator/health-probe.js';
import type { CallToken, WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import { type FunctionId, LEAVING_MS, type Workload, type WorkloadFault } from '#libs/orchestrator/workload.js';
import { removeLeftovers } from './clean-up.js';
import type { Interpreter } from './interpreter.js';
import { identityOf, isAlive, type ProcessIdentity, processes } from './process-table.js';
import { type Clearable, POOL, type ReplicaExit, type ReplicaRecord, type ReplicaStore } from './replica-store.js';
import type { WorkerLogs } from './worker-log.js';
import { killAll, layFunction, layOut, startWorker, terminate } from './worker-process.js';

const WAIT_STEP_MS = 20;
const LOOK_INTERVAL_MS = 250;
/** What a shell adds to a signal's number. */
const SIGNALLED = 128;
/** What an adopted replica gets to show that it is ready before a step goes on without it. */
const ADOPTION_PROBE_MS = 300;

interface Watched {
  readonly record: ReplicaRecord;
  /** Only what this process started itself tells its exit status. */
  readonly child: ChildProcess | undefined;
  readonly hasEnded: boolean;
}

/** What to start: a function's replica, or a generic worker. */
type Intended = Pick<ReplicaRecord, 'functionId' | 'revision' | 'hash' | 'timeoutMs' | 'manager' | 'serves'>;

/** A worker that was started just now. */
interface Launched {
  readonly record: ReplicaRecord;
  readonly child: ChildProcess;
  readonly call: CallToken;
}

/** The replicas of this owner: starts, watches, drains and removes them. Steps of one function must not overlap. */
export class Replicas {
  private readonly watched = new Map<string, Watched>();
  private readonly prober: HealthProber;
  private readonly timer: NodeJS.Timeout;
  private readonly killing = new Set<string>();
  /** Functions whose logs go with them. */
  private readonly removing = new Set<FunctionId>();
  private looking = false;

  constructor(
    private readonly store: ReplicaStore,
    private readonly logs: WorkerLogs,
    private readonly departures: Departures,
    private readonly tokens: WorkerTokens,
    private readonly onChange: (functionId: FunctionId) => void,
    private readonly logger: Logger,
  ) {
    this.prober = new HealthProber(onChange);
    this.timer = setInterval(() => void this.look(), LOOK_INTERVAL_MS).unref();
  }

  close(): void {
    clearInterval(this.timer);
    this.prober.close();
  }

  /** Watches what a former manager has left. */
  async adoptAll(): Promise<void> {
    for (const functionId of await this.store.functions()) {
      for (const record of await this.store.load(functionId)) {
        if (record.process === undefined) continue;
        this.watch(record);
        if (record.drainUntil === undefined) this.track(record);
      }
    }
  }

  /** Finds out what still lives, notes why the rest ended and clears it away. */
  async settle(functionId: FunctionId): Promise<ReplicaRecord[]> {
    const living: ReplicaRecord[] = [];
    const { records, halfMade } = await this.store.look(functionId);
    // Whatever their age: there may be no other step for as long as the function is idle.
    for (const place of halfMade) await this.clear(place);
    for (const loaded of records) {
      const record = { ...loaded, process: await this.processOf(loaded) };
      // One from the pool whose manager ended before it gave it its function: nobody else is at it now.
      if (record.process === undefined || record.serves === false) {
        await this.destroy(record);
        continue;
      }
      if (loaded.process === undefined) await this.adopt(record);
      this.watch(record);
      const exit = await this.exitOf(record);
      const fault = record.drainUntil === undefined ? await this.faultOf(record, exit) : undefined;
      if (fault !== undefined) await this.noteFault(record, fault);
      if (fault !== undefined || exit !== undefined || isOverdue(record)) await this.destroy(record);
      else living.push(record);
    }
    return living;
  }

  async start(workload: Workload, hash: string, interpreter: Interpreter): Promise<ReplicaRecord> {
    const { functionId, revision, limits } = workload;
    const intended = { functionId, revision, hash, timeoutMs: limits.timeoutMs };
    const { record, child } = await this.launch(intended, interpreter, (laidOut) =>
      layFunction(this.store, laidOut, workload),
    );
    this.watch(record, child);
    this.track(record);
    this.logStart(record, false);
    return record;
  }

  /** Leaves nothing behind when it fails. */
  async launch(
    intended: Intended,
    interpreter: Interpreter,
    variablesOf: (laidOut: ReplicaRecord) => Promise<Record<string, string>>,
  ): Promise<Launched> {
    const call = this.tokens.issue();
    let record: ReplicaRecord = {
      ...intended,
      ...(await this.store.claim(intended.functionId)),
      startedAt: Date.now(),
      process: undefined,
      drainUntil: undefined,
      credential: call.credential,
    };
    try {
      await this.store.save(record);
      await layOut(this.store, record);
      const variables = { ...(await variablesOf(record)), FAAS_CALL_SHA256: call.sha256 };
      const child = await startWorker(this.store, record, variables, interpreter);
      record = { ...record, process: await identityOf(child.pid) };
      await this.store.save(record);
      return { record, child, call };
    } catch (error) {
      await this.destroy(record);
      throw error;
    }
  }

  /** Tells a replica to leave. It keeps the earlier of two deadlines. */
  async drain(record: ReplicaRecord, graceMs = record.timeoutMs + LEAVING_MS): Promise<ReplicaRecord> {
    const draining = { ...record, drainUntil: Math.min(record.drainUntil ?? Infinity, Date.now() + graceMs) };
    // Noted first: without the note, its exit would count as a crash.
    await this.store.save(draining);
    this.watch(draining);
    this.prober.forget(record.replica);
    // A second signal would cut the calls.
    if (record.drainUntil === undefined) await terminate(record.process);
    return draining;
  }

  async remove(functionId: FunctionId, graceMs: number, signal: AbortSignal): Promise<void> {
    this.removing.add(functionId);
    try {
      await this.removeAll(functionId, graceMs, signal);
    } finally {
      this.removing.delete(functionId);
    }
  }

  private async removeAll(functionId: FunctionId, graceMs: number, signal: AbortSignal): Promise<void> {
    const deadline = Date.now() + graceMs;
    const draining: ReplicaRecord[] = [];
    for (const record of await this.settle(functionId)) draining.push(await this.drain(record, graceMs));
    for (const record of draining) {
      while (Date.now() < deadline && (await this.exitOf(record)) === undefined) {
        await delay(Math.min(WAIT_STEP_MS, deadline - Date.now() + 1), undefined, { signal });
      }
    }
    for (const record of draining) await this.destroy(record);
    // A step that has outlived its lease may have started one meanwhile.
    for (const record of await this.settle(functionId)) await this.destroy(record);
    await this.store.removeFunction(functionId);
  }

  /** Ends whatever is left of a replica and clears it away. */
  async destroy(record: ReplicaRecord): Promise<void> {
    this.forget(record);
    await killAll(await this.processOf(record), record.uid);
    if (record.functionId !== POOL && !this.removing.has(record.functionId)) {
      await this.departures.tell(record.functionId, this.logs.of(record));
    }
    await this.clear(record);
  }

  /** Clears away what is left of one that isn't known to run. */
  async clear(place: Clearable): Promise<void> {
    await this.store.removeReplica(place);
    // One that another process had laid out and not yet started may have been started meanwhile. From now on it can't.
    if (place.process === undefined) await killAll(await this.processOf(place), place.uid);
    if (place.uid !== undefined) await removeLeftovers(place.uid);
  }

  /** @param child of this process */
  watch(record: ReplicaRecord, child?: ChildProcess): void {
    const known = this.watched.get(record.replica);
    this.watched.set(record.replica, { hasEnded: false, child: undefined, ...known, record, ...(child && { child }) });
    child?.once('exit', (code, signal) => {
      // Another process has no other way to learn it. The folder may be gone already, with nobody left to ask.
      const noted = this.store.saveExit(record, { code, signal, at: Date.now() }).catch(() => undefined);
      void noted.then(() => this.noteEnd(record.replica));
    });
  }

  isReady({ replica }: ReplicaRecord): boolean {
    return this.prober.health(replica) === 'ready';
  }

  /** Begins to ask after the health of replicas, and waits a moment for the first answers. */
  async probe(records: readonly ReplicaRecord[]): Promise<void> {
    for (const record of records) this.track(record);
    const unknown = records.filter(({ replica }) => this.prober.health(replica) === 'starting');
    if (unknown.length === 0) return;
    const probed = Promise.all(unknown.map(({ replica }) => this.prober.probed(replica)));
    await within('the first probe', { ms: ADOPTION_PROBE_MS }, () => probed).catch(() => undefined);
  }

  track(record: ReplicaRecord, health: 'starting' | 'ready' = 'starting'): void {
    const token = this.tokens.tokenFor(record.credential);
    this.prober.track(record.replica, record.functionId, this.store.address(record), health, token);
  }

  logStart({ functionId, replica, revision, process: worker, uid }: ReplicaRecord, warm: boolean): void {
    this.logger.info({ functionId, replica, revision, pid: worker?.pid, uid, warm }, 'worker started');
  }

  /** What a manager that was killed between starting a process and noting its pid left behind is found by its tag. */
  private async processOf(record: Clearable): Promise<ProcessIdentity | undefined> {
    if (record.process !== undefined) return record.process;
    const [tag, user] = [this.store.tag(record), record.uid ?? process.geteuid?.()];
    const found = await processes.read();
    const leader = found.find(({ pid, group, uid, words }) => pid === group && uid === user && words.includes(tag));
    return leader && { pid: leader.pid, startTime: leader.startTime };
  }

  private async adopt(record: ReplicaRecord): Promise<void> {
    await this.store.save(record);
    const { functionId, replica, process: worker } = record;
    this.logger.info({ functionId, replica, pid: worker?.pid }, 'orphaned worker adopted');
  }

  /** Undefined while it lives. */
  private async exitOf(record: ReplicaRecord): Promise<ReplicaExit | undefined> {
    const child = this.watched.get(record.replica)?.child;
    if (child === undefined) {
      if (await isAlive(record.process)) return undefined;
      return (await this.store.exitOf(record)) ?? { code: null, signal: null, at: Date.now() };
    }
    const { exitCode: code, signalCode: signal } = child;
    return code === null && signal === null ? undefined : { code, signal, at: Date.now() };
  }

  private async faultOf(record: ReplicaRecord, exit: ReplicaExit | undefined): Promise<WorkloadFault | undefined> {
    if (exit !== undefined) {
      const exitCode = exit.signal === null ? (exit.code ?? undefined) : SIGNALLED + constants.signals[exit.signal];
      const log = await this.logs.tailOf(record);
      const finishedAt = new Date(exit.at);
      return exitFault({ exitCode, oomKilled: false, finishedAt, error: '', log, neverReady: false });
    }
    if (this.prober.health(record.replica) !== 'unhealthy') return undefined;
    const message = 'The worker stopped answering and was ended.';
    return { code: 'worker_crashed', message, terminal: false, at: new Date() };
  }

  private async noteFault({ functionId, replica, hash }: ReplicaRecord, reason: WorkloadFault): Promise<void> {
    const before = await this.store.faultOf(functionId);
    const owed = before?.hash === hash ? before.owed + 1 : 1;
    await this.store.saveFault(functionId, { hash, reason, owed });
    this.logger.warn({ functionId, replica, code: reason.code, reason: reason.message }, 'worker ended by itself');
  }

  /** Notices what ended, or was cleared away by another process; keeps logs small; ends drains that take too long. */
  private async look(): Promise<void> {
    if (this.looking) return;
    this.looking = true;
    for (const watched of [...this.watched.values()]) {
      const { functionId, replica } = watched.record;
      await this.lookAt(watched).catch((error: unknown) =>
        this.logger.warn({ err: error, functionId, replica }, 'looking after a worker failed'),
      );
    }
    this.looking = false;
  }

  private async lookAt({ record, child, hasEnded }: Watched): Promise<void> {
    // Its own children tell it by themselves.
    if (child === undefined && !hasEnded && !(await isAlive(record.process))) this.noteEnd(record.replica);
    if (hasEnded && !(await this.store.has(record))) this.forget(record);
    await this.logs.rotate(record);
    if (!hasEnded && isOverdue(record)) this.kill(record);
  }

  /** Others aren't kept waiting by one that takes long to end. */
  private kill({ replica, functionId, process: worker, uid }: ReplicaRecord): void {
    if (this.killing.has(replica)) return;
    this.killing.add(replica);
    killAll(worker, uid)
      .catch((error: unknown) => this.logger.warn({ err: error, functionId, replica }, 'ending a worker failed'))
      .finally(() => this.killing.delete(replica));
  }

  /** The step that this leads to clears it away. */
  private noteEnd(replica: string): void {
    const watched = this.watched.get(replica);
    if (watched === undefined || watched.hasEnded) return;
    this.watched.set(replica, { ...watched, hasEnded: true });
    this.onChange(watched.record.functionId);
  }

  private forget({ replica }: ReplicaRecord): void {
    this.prober.forget(replica);
    this.watched.delete(replica);
  }
}

function isOverdue({ drainUntil }: ReplicaRecord): boolean {
  return drainUntil !== undefined && Date.now() >= drainUntil;
}
