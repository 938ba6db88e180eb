import { EventEmitter, on } from 'node:events';
import { access, constants } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { NO_POOL, type PoolConfig, type ProcessConfig } from '#libs/config/config.js';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import { HealthProber } from '#libs/orchestrator/health-probe.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import type { PoolReport } from '#libs/orchestrator/pool-report.js';
import { specHash } from '#libs/orchestrator/spec-hash.js';
import { WarmPool } from '#libs/orchestrator/warm-pool.js';
import type { WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import type { FunctionId, LogLine, LogOptions, Observed, Workload } from '#libs/orchestrator/workload.js';
import { FunctionLock } from './function-lock.js';
import { ownUidRange, UidClaims, workersOf } from './isolation.js';
import { observedOf, planFor, type Standing, withheldOf } from './plan.js';
import { PoolProcesses, type PoolProcess, type Site } from './pool-processes.js';
import { type ProcessTable, processTable } from './process-table.js';
import { ReplicaFiles, type ReplicaRecord } from './replica-files.js';
import { ReplicaKeeper } from './replica-keeper.js';
import { ReplicaWatch } from './replica-watch.js';
import { prepareSite } from './site.js';
import { Upkeep } from './upkeep.js';
import { WarmStarter } from './warm-starter.js';
import { WorkerLogs } from './worker-log.js';

const UPKEEP_LOCK_MS = 10_000;
/** What an adopted replica gets to show that it is ready before `ensure` answers without it. */
const ADOPTION_PROBE_MS = 300;

/**
 * Runs workers as processes of this machine. They outlive the manager: all that is known of them is in files and in
 * the process list, and the next manager of the same owner goes on from there.
 *
 * @param owner one installation, such as one database
 */
export class ProcessOrchestrator extends Orchestrator {
  readonly engine = 'process';
  readonly capabilities = { scalesItself: false, isolates: false, largestCodeBytes: Infinity };
  private readonly files: ReplicaFiles;
  private readonly table: ProcessTable = processTable();
  private readonly watched: ReplicaWatch;
  private readonly prober: HealthProber;
  private readonly workerLogs: WorkerLogs;
  private readonly keeper: ReplicaKeeper;
  private readonly upkeep: Upkeep;
  private readonly claims: UidClaims | undefined;
  private readonly changes = new EventEmitter().setMaxListeners(0);
  private readonly poolProcesses: PoolProcesses;
  private readonly pool: WarmPool<PoolProcess>;
  private readonly warmStarter: WarmStarter;
  private preparing: Promise<Site> | undefined;

  constructor(
    private readonly config: ProcessConfig,
    owner: string,
    private readonly tokens: WorkerTokens,
    private readonly logger: Logger,
    pool: PoolConfig = NO_POOL,
  ) {
    super();
    const range = ownUidRange();
    this.files = new ReplicaFiles(config.runtimeDir, owner);
    this.claims = range && new UidClaims(config.runtimeDir, workersOf(range), this.table);
    this.prober = new HealthProber((functionId) => this.changes.emit('change', functionId));
    this.watched = new ReplicaWatch(this.table, this.files, (record) => this.onEnd(record));
    this.workerLogs = new WorkerLogs(this.files);
    this.upkeep = new Upkeep(this.watched, this.workerLogs, (functionId) => this.tidy(functionId), logger);
    this.keeper = new ReplicaKeeper(
      this.files,
      this.table,
      this.watched,
      this.prober,
      this.workerLogs,
      this.claims,
      tokens,
      async () => (await this.prepared()).interpreter,
      logger,
    );
    this.poolProcesses = new PoolProcesses(this.files, this.table, this.keeper, this.claims, tokens, () =>
      this.prepared(),
    );
    this.pool = new WarmPool(this.poolProcesses, pool.size, logger, pool.leaseMs);
    this.warmStarter = new WarmStarter(
      this.files,
      this.pool,
      this.keeper,
      this.watched,
      this.prober,
      this.claims,
      logger,
    );
  }

  override get warmPool(): PoolReport {
    return this.pool;
  }

  ensure(workload: Workload, signal: AbortSignal): Promise<Observed> {
    return this.guarded(signal, (site) => this.step(workload, site, signal));
  }

  private async step(workload: Workload, { interpreter, lock }: Site, signal: AbortSignal): Promise<Observed> {
    const { functionId } = workload;
    await using _held = await lock.acquire(this.files.lock(functionId), signal);
    await this.files.makeFunctionDir(functionId);
    const hash = specHash(workload, { worker: interpreter.key });
    const living = (await this.keeper.settle(functionId)).filter(({ drainUntil }) => drainUntil === undefined);
    await this.probe(living);

    const fault = await this.files.faultOf(functionId);
    const current = fault?.hash === hash ? fault : undefined;
    const withheld = withheldOf(current, workload.replaceEndedFrom, new Date());
    const plan = planFor(this.standing(living), hash, workload.replicas, withheld);
    if (plan.start > 0 && current !== undefined && current.owed > 0 && withheld === 0) {
      await this.files.saveFault(functionId, { ...current, owed: 0 });
    }
    for (let started = 0; started < plan.start; started += 1) {
      signal.throwIfAborted();
      const warm = await this.warmStarter.start(workload, hash, signal);
      living.push(warm ?? (await this.keeper.start(workload, hash, interpreter)));
    }
    // Looked at again: a warm replica is ready at once, and this may be the last step for long.
    const { drain } = planFor(this.standing(living), hash, workload.replicas, withheld);
    const leaving = living.filter(({ replica }) => drain.includes(replica));
    for (const record of leaving) await this.keeper.drain(record);
    const staying = living.filter((record) => !leaving.includes(record));
    return observedOf(this.standing(staying), hash, workload.replicas, `faas-worker-${functionId}`, current?.reason);
  }

  remove(functionId: FunctionId, graceMs: number, signal: AbortSignal): Promise<void> {
    return this.guarded(signal, async ({ lock }) => {
      await using _held = await lock.acquire(this.files.lock(functionId), signal);
      const draining: ReplicaRecord[] = [];
      for (const record of await this.keeper.settle(functionId)) {
        draining.push(await this.keeper.drain(record, graceMs));
      }
      await this.keeper.waitForEnd(draining, graceMs, signal);
      for (const record of draining) await this.keeper.bury(record);
      await this.files.removeFunction(functionId);
    });
  }

  list(signal: AbortSignal): Promise<FunctionId[]> {
    return this.guarded(signal, async ({ lock }) => {
      // Asked for now and then, to find what belongs to no function: such as a killed manager's own leftovers.
      await lock.tidy(this.files.lockDir);
      await this.claims?.tidy();
      await this.poolProcesses.sweep();
      return this.files.functions();
    });
  }

  async watch(onChange: (functionId: FunctionId | undefined) => void, signal: AbortSignal): Promise<void> {
    const events = on(this.changes, 'change', { signal }) as AsyncIterable<[FunctionId | undefined]>;
    try {
      for await (const [functionId] of events) onChange(functionId);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  logs(functionId: FunctionId, options: LogOptions): AsyncIterable<LogLine> {
    return this.workerLogs.read(functionId, options);
  }

  ping(signal: AbortSignal): Promise<void> {
    return this.guarded(signal, async () => {
      try {
        await access(this.files.ownerDir, constants.W_OK | constants.X_OK);
      } catch (error) {
        this.preparing = undefined;
        throw error;
      }
    });
  }

  /** Ends this manager's timers, and its workers that have no function. The others go on. */
  override async close(): Promise<void> {
    this.upkeep.stop();
    this.prober.close();
    await this.pool.close();
  }

  /** What the machine refuses, such as a full disk or no more processes, may pass: the port's word for that. */
  private async guarded<T>(signal: AbortSignal, work: (site: Site) => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    try {
      return await work(await abortable(this.prepared(), signal));
    } catch (error) {
      if (signal.aborted || error instanceof OrchestratorUnavailable) throw error;
      throw new OrchestratorUnavailable('process', String(error), error);
    }
  }

  /** Once, and again only after it failed: what stands in the way may have been put right. */
  private prepared(): Promise<Site> {
    this.preparing ??= this.prepare().catch((error: unknown) => {
      this.preparing = undefined;
      throw error;
    });
    return this.preparing;
  }

  private async prepare(): Promise<Site> {
    if (this.claims === undefined && process.geteuid?.() === 0) {
      throw new OrchestratorUnavailable('process', 'as root it needs a range of uids for workers, and none is mapped');
    }
    const interpreter = await prepareSite(this.config, this.files, this.claims?.range.first);
    const startTime = (await this.table.startTime(process.pid)) ?? '';
    for (const functionId of await this.files.functions()) {
      for (const record of await this.files.peek(functionId)) {
        if (record.process === undefined) continue;
        this.watched.adopt(record);
        if (record.drainUntil === undefined) this.track(record);
      }
    }
    this.upkeep.start();
    this.pool.start();
    this.sweepPool();
    const self = { pid: process.pid, startTime };
    return { interpreter, self, lock: new FunctionLock(this.table, self) };
  }

  /** What a manager that was killed has left. */
  private sweepPool(): void {
    this.poolProcesses.sweep().catch((error: unknown) => this.logger.debug({ err: error }, 'sweeping was put off'));
  }

  private track(record: ReplicaRecord): void {
    const address = { kind: 'unix', path: this.files.socket(record) } as const;
    this.prober.track(record.replica, record.functionId, address, 'starting', this.tokens.tokenFor(record.credential));
  }

  private async probe(records: readonly ReplicaRecord[]): Promise<void> {
    for (const record of records) this.track(record);
    const unknown = records.filter(({ replica }) => this.prober.health(replica) === 'starting');
    if (unknown.length === 0) return;
    const probed = Promise.all(unknown.map(({ replica }) => this.prober.probed(replica)));
    const patience = new AbortController();
    await Promise.race([
      probed,
      delay(ADOPTION_PROBE_MS, undefined, { signal: patience.signal }).catch(() => undefined),
    ]);
    patience.abort();
  }

  private standing(records: readonly ReplicaRecord[]): Standing[] {
    return records.map((record) => ({
      replica: record.replica,
      hash: record.hash,
      ready: this.prober.health(record.replica) === 'ready',
      address: { kind: 'unix', path: this.files.socket(record) },
      credential: record.credential,
    }));
  }

  private onEnd(record: ReplicaRecord): void {
    this.changes.emit('change', record.functionId);
    if (record.drainUntil !== undefined) this.tidy(record.functionId);
  }

  /** Clears away what has drained, without waiting for the next `ensure`. */
  private tidy(functionId: FunctionId): void {
    const work = async () => {
      const { lock } = await this.prepared();
      const signal = AbortSignal.timeout(UPKEEP_LOCK_MS);
      await using _held = await lock.acquire(this.files.lock(functionId), signal);
      await this.keeper.settle(functionId);
    };
    // Whoever holds the lock for so long clears up itself.
    work().catch((error: unknown) => this.logger.debug({ err: error, functionId }, 'tidying was put off'));
  }
}

async function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason as Error);
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
