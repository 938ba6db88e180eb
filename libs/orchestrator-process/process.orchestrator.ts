import { EventEmitter, once } from 'node:events';
import { access, chmod, constants, lstat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { NO_POOL, type PoolConfig, type ProcessConfig } from '#libs/config/config.js';
import { within } from '#libs/deadlines/within.js';
import { makeFolder } from '#libs/files/make-folder.js';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import type { LayerEngine } from '#libs/orchestrator/layers.js';
import { KeyedMutex } from '#libs/orchestrator/keyed-mutex.js';
import { type Capabilities, Orchestrator, type PoolReport } from '#libs/orchestrator/orchestrator.js';
import { observedOf, planFor, type Standing, withheldOf } from '#libs/orchestrator/replica-plan.js';
import { specHash } from '#libs/orchestrator/spec-hash.js';
import type { WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import type { ReplicaLog } from '#libs/orchestrator/replica-log.js';
import { faultFor, type FunctionId, type Observed, type Workload } from '#libs/orchestrator/workload.js';
import { findInterpreter, type Interpreter } from './interpreter.js';
import { ProcessLayers } from './process-layers.js';
import { ProcessPool } from './process-pool.js';
import { type ReplicaRecord, ReplicaStore } from './replica-store.js';
import { Replicas } from './replicas.js';
import { UnpackedLayers } from './unpacked-layers.js';
import { builderUsers, workerUids } from './users.js';
import { WorkerLogs } from './worker-log.js';

/** Linux keeps a UNIX socket's path in 108 bytes, the last of them a NUL. */
const SOCKET_PATH_BYTES = 107;
const LONGEST_PLACE = { functionId: 'x'.repeat(16), replica: `${'x'.repeat(16)}-${'0'.repeat(8)}` };

/**
 * Runs workers as processes of this machine. They outlive the manager: all that is known of them is in files and in
 * the process list, and the next manager of the same owner goes on from there. Several processes of one manager may use
 * it at once, as long as no two of them act on one function: the leases of the rows see to that.
 *
 * @param owner one installation, such as one database
 */
export class ProcessOrchestrator extends Orchestrator {
  readonly engine = 'process';
  readonly capabilities: Capabilities = {
    scalesItself: false,
    isolates: false,
    largestCodeBytes: Infinity,
    layers: 'mounted',
  };
  private readonly changes = new EventEmitter().setMaxListeners(0);
  private readonly steps = new KeyedMutex();
  private readonly uids = workerUids();
  private readonly store: ReplicaStore;
  private readonly workerLogs: WorkerLogs;
  private readonly replicas: Replicas;
  private readonly pool: ProcessPool;
  private readonly builds: ProcessLayers | undefined;
  private preparing: Promise<Interpreter> | undefined;

  constructor(
    private readonly config: ProcessConfig,
    owner: string,
    tokens: WorkerTokens,
    private readonly logger: Logger,
    pool: PoolConfig = NO_POOL,
  ) {
    super();
    const notify = (functionId: FunctionId) => this.changes.emit('change', functionId);
    this.store = new ReplicaStore(config.runtimeDir, owner, this.uids, config.layers?.dir);
    this.workerLogs = new WorkerLogs(this.store);
    this.replicas = new Replicas(this.store, this.workerLogs, this.departures, tokens, notify, logger);
    this.builds = this.openBuilds(config);
    this.pool = new ProcessPool(this.store, this.replicas, () => this.prepared(), pool, logger);
  }

  override get warmPool(): PoolReport {
    return this.pool.workers;
  }

  override get layers(): LayerEngine | undefined {
    return this.builds;
  }

  ensure(workload: Workload, signal: AbortSignal): Promise<Observed> {
    return this.guarded(signal, (interpreter) =>
      this.steps.run(workload.functionId, signal, () => this.step(workload, interpreter, signal)),
    );
  }

  private async step(workload: Workload, interpreter: Interpreter, signal: AbortSignal): Promise<Observed> {
    const { functionId, replicas: wanted } = workload;
    const hash = specHash(workload, { worker: interpreter.key });
    const living = (await this.replicas.settle(functionId)).filter(({ drainUntil }) => drainUntil === undefined);
    await this.replicas.probe(living);

    const fault = await this.store.faultOf(functionId);
    // Of a spec that was given up: should it be wanted again, it is tried again.
    if (fault !== undefined && fault.hash !== hash) await this.store.removeFault(functionId);
    const current = fault?.hash === hash ? { ...fault, reason: faultFor(workload, fault.reason) } : undefined;
    const withheld = withheldOf(current, workload, new Date());
    const { start } = planFor(this.standing(living), hash, wanted, withheld);
    if (start > 0 && current !== undefined && current.owed > 0 && withheld === 0) {
      await this.store.saveFault(functionId, { ...current, owed: 0 });
    }
    if (start > 0 && workload.layer !== undefined) await this.builds?.unpacked.ready(workload.layer, signal);
    for (let started = 0; started < start; started += 1) {
      signal.throwIfAborted();
      const warm = await this.pool.take(workload, hash, living.length + started === 0, signal);
      const cold = () =>
        workload.secrets === undefined
          ? this.replicas.start(workload, hash, interpreter)
          : this.pool.startCold(workload, hash, signal);
      living.push(warm ?? (await cold()));
    }
    // Looked at again: a warm replica is ready at once, and this may be the last step for long.
    const { drain } = planFor(this.standing(living), hash, wanted, withheld);
    const leaving = living.filter(({ replica }) => drain.includes(replica));
    for (const record of leaving) await this.replicas.drain(record);
    const staying = living.filter((record) => !leaving.includes(record));
    return observedOf(this.standing(staying), hash, wanted, `faas-worker-${functionId}`, current?.reason);
  }

  remove(functionId: FunctionId, graceMs: number, signal: AbortSignal): Promise<void> {
    return this.guarded(signal, () =>
      this.steps.run(functionId, signal, () => this.replicas.remove(functionId, graceMs, signal)),
    );
  }

  list(signal: AbortSignal): Promise<FunctionId[]> {
    return this.guarded(signal, async () => {
      // Asked for now and then, to find what belongs to no function: such as a killed manager's own pool.
      await this.pool.sweep();
      return this.store.functions();
    });
  }

  async watch(onChange: (functionId: FunctionId | undefined) => void, signal: AbortSignal): Promise<void> {
    this.changes.on('change', onChange);
    if (!signal.aborted) await once(signal, 'abort');
    this.changes.off('change', onChange);
  }

  async logs(functionId: FunctionId): Promise<ReplicaLog[]> {
    const records = await this.store.load(functionId);
    return records.map((record) => this.workerLogs.of(record));
  }

  ping(signal: AbortSignal): Promise<void> {
    return this.guarded(signal, async () => {
      try {
        await access(this.store.ownerDir, constants.W_OK | constants.X_OK);
      } catch (error) {
        this.preparing = undefined;
        throw error;
      }
    });
  }

  /** Ends this manager's timers, and its workers that have no function. The others go on. */
  override async close(): Promise<void> {
    this.replicas.close();
    await Promise.all([this.pool.workers.close(), this.builds?.close()]);
  }

  /** What the machine refuses, such as a full disk or no more processes, may pass: the port's word for that. */
  private async guarded<T>(signal: AbortSignal, work: (interpreter: Interpreter) => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    try {
      return await work(await within('preparing the process engine', { signal }, () => this.prepared()));
    } catch (error) {
      if (signal.aborted) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new OrchestratorUnavailable(this.engine, reason, error, "can't run workers");
    }
  }

  /** Once, and again only after it failed: what stands in the way may have been put right. */
  private prepared(): Promise<Interpreter> {
    this.preparing ??= this.prepare().catch((error: unknown) => {
      this.preparing = undefined;
      throw error;
    });
    return this.preparing;
  }

  /** Checks that workers can live here and makes their folders; says what to do when they can't. */
  private async prepare(): Promise<Interpreter> {
    if (this.uids === undefined && process.geteuid?.() === 0) {
      throw new Error('as root it needs a range of uids for workers, and none is mapped');
    }
    const excess = Buffer.byteLength(this.store.address(LONGEST_PLACE).path) - SOCKET_PATH_BYTES;
    if (excess > 0) {
      throw new Error(`the runtime folder's path is ${excess} bytes too long for sockets`);
    }
    await makePassable(this.config.runtimeDir);
    await makePassable(this.store.ownerDir);
    const interpreter = await findInterpreter(this.config, this.uids?.first);
    await this.replicas.adoptAll();
    this.pool.workers.start();
    this.pool.sweep().catch((error: unknown) => this.logger.debug({ err: error }, 'sweeping the pool was put off'));
    return interpreter;
  }

  private openBuilds({ layers }: ProcessConfig): ProcessLayers | undefined {
    if (layers === undefined) return undefined;
    const unpacked = new UnpackedLayers(this.store.layersDir, layers);
    const folder = join(this.store.ownerDir, '.builder');
    return new ProcessLayers(this.config, layers, folder, builderUsers(), () => this.prepared(), unpacked);
  }

  private standing(records: readonly ReplicaRecord[]): Standing[] {
    return records.map((record) => ({
      replica: record.replica,
      hash: record.hash,
      ready: this.replicas.isReady(record),
      address: this.store.address(record),
      credential: record.credential,
      revision: record.revision,
    }));
  }
}

/** In a folder such as `/tmp` anybody may have made one before us, and would own what we put into it. */
async function makePassable(folder: string): Promise<void> {
  await makeFolder(folder, 0o755);
  const found = await lstat(folder);
  const self = process.geteuid?.();
  if (!found.isDirectory() || (self !== undefined && found.uid !== self)) {
    throw new Error(`${folder} is not a folder of this user`);
  }
  await chmod(folder, 0o711);
}
