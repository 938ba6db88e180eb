import type { ChildProcess } from 'node:child_process';
import type { Logger } from 'pino';
import type { PoolConfig } from '#libs/config/config.js';
import { type OneTimeToken, secretsFor } from '#libs/orchestrator/generic-worker.js';
import { probeHealth } from '#libs/orchestrator/health-probe.js';
import { IdleProcessors } from '#libs/orchestrator/idle-processors.js';
import { roomIn } from '#libs/orchestrator/pool-target.js';
import { type PoolMember, type PoolSource, WarmPool } from '#libs/orchestrator/warm-pool.js';
import type { Workload } from '#libs/orchestrator/workload.js';
import type { Interpreter } from './interpreter.js';
import { identityOf, isAlive } from './process-table.js';
import { POOL, type ReplicaRecord, type ReplicaStore } from './replica-store.js';
import type { Replicas } from './replicas.js';
import { layFunction, placesOf } from './worker-process.js';

/** A handler that loads more slowly is looked at again like any that starts. */
const LOAD_MS = 500;
/** A folder without a record that is older than this isn't being made any more. */
const HALF_MADE_MS = 10_000;

interface PoolProcess extends PoolMember {
  readonly record: ReplicaRecord;
  readonly child: ChildProcess;
}

/** Generic workers as processes, each in a folder and under a user of its own from the start. */
export class ProcessPool implements PoolSource<PoolProcess> {
  readonly workers: WarmPool<PoolProcess>;
  readonly processors = new IdleProcessors();

  constructor(
    private readonly store: ReplicaStore,
    private readonly replicas: Replicas,
    private readonly interpreter: () => Promise<Interpreter>,
    pool: PoolConfig,
    private readonly logger: Logger,
  ) {
    this.workers = new WarmPool(this, pool.size, logger, pool.leaseMs);
  }

  async start({ token, sha256 }: OneTimeToken, _closing: AbortSignal, leaseMs: number): Promise<PoolProcess> {
    const manager = await identityOf(process.pid);
    const intended = { functionId: POOL, revision: 0, hash: '', timeoutMs: 0, manager, serves: false };
    const variables = { FAAS_SPECIALISE_SHA256: sha256, FAAS_GENERIC_LEASE_MS: String(leaseMs) };
    const launched = await this.replicas.launch(intended, await this.interpreter(), async () => variables);
    return { id: launched.record.replica, address: this.store.address(launched.record), token, ...launched };
  }

  remove({ record }: PoolProcess): Promise<void> {
    return this.replicas.destroy(record);
  }

  async hasEnded({ child }: PoolProcess): Promise<boolean> {
    return child.exitCode !== null || child.signalCode !== null;
  }

  async room(members: number): Promise<number> {
    return roomIn(process.availableMemory(), members);
  }

  /** Ends the workers of managers that are gone, and clears away those that have ended. */
  async sweep(): Promise<void> {
    const { records, halfMade } = await this.store.look(POOL);
    for (const place of halfMade) {
      if (await this.store.isOlder(place, HALF_MADE_MS)) await this.replicas.clear(place);
    }
    for (const record of records) {
      const isUp = record.process === undefined || (await isAlive(record.process));
      if (!isUp || !(await isAlive(record.manager))) await this.replicas.destroy(record);
    }
  }

  /**
   * Makes a function's replica of a generic worker that is ready. Undefined when there is none, or it wouldn't do: then
   * nothing of it is left, and the caller starts one cold.
   *
   * @param isFirst the function has no other replica
   */
  async take(
    workload: Workload,
    hash: string,
    isFirst: boolean,
    signal: AbortSignal,
  ): Promise<ReplicaRecord | undefined> {
    const member = this.workers.take(isFirst ? undefined : workload.functionId);
    if (member === undefined) return undefined;
    try {
      return await this.become(member, workload, hash, true, signal);
    } catch (error) {
      signal.throwIfAborted();
      const { functionId } = workload;
      this.logger.info({ err: error, functionId, replica: member.record.replica }, 'warm start failed');
      return undefined;
    }
  }

  /** The same with a worker that has to be started first: for what must not stand in a process's environment. */
  async startCold(workload: Workload, hash: string, signal: AbortSignal): Promise<ReplicaRecord> {
    return this.become(await this.workers.make(signal), workload, hash, false, signal);
  }

  private async become(
    member: PoolProcess,
    workload: Workload,
    hash: string,
    warm: boolean,
    signal: AbortSignal,
  ): Promise<ReplicaRecord> {
    const { functionId, revision, limits } = workload;
    let { record } = member;
    try {
      // Its record says until the end that it serves nobody: whoever finds it in the function's folder removes it.
      const place = await this.store.move(record, functionId);
      record = { ...record, ...place, revision, hash, timeoutMs: limits.timeoutMs, startedAt: Date.now() };
      const variables = await layFunction(this.store, record, workload);
      this.replicas.watch(record, member.child);
      const address = this.store.address(record);
      const { environment: values, files } = secretsFor(workload);
      const environment = { ...placesOf(this.store, record), ...variables, ...values };
      await this.workers.specialise(member, { environment, files }, signal, address);
      record = { ...record, serves: true };
      await this.store.save(record);
      this.replicas.watch(record);
      const { good } = await probeHealth(address, LOAD_MS, member.call.token);
      this.replicas.track(record, good ? 'ready' : 'starting');
      this.replicas.logStart(record, warm);
      return record;
    } catch (error) {
      await this.replicas.destroy(record);
      throw error;
    }
  }
}
