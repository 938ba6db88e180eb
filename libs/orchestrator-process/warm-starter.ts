import type { Logger } from 'pino';
import { type HealthProber, probeHealth } from '#libs/orchestrator/health-probe.js';
import type { WarmPool } from '#libs/orchestrator/warm-pool.js';
import type { Workload } from '#libs/orchestrator/workload.js';
import type { UidClaims } from './isolation.js';
import { functionVariables, layCode, placesOf } from './launch.js';
import type { PoolProcess } from './pool-processes.js';
import type { ReplicaFiles, ReplicaRecord } from './replica-files.js';
import type { ReplicaKeeper } from './replica-keeper.js';
import type { ReplicaWatch } from './replica-watch.js';

/** A handler that loads more slowly is looked at again like any that starts. */
const LOAD_MS = 500;

/** Makes a function's replica of a generic worker that is ready. Expects its caller to hold the function's lock. */
export class WarmStarter {
  constructor(
    private readonly files: ReplicaFiles,
    private readonly pool: WarmPool<PoolProcess>,
    private readonly keeper: ReplicaKeeper,
    private readonly watch: ReplicaWatch,
    private readonly prober: HealthProber,
    private readonly claims: UidClaims | undefined,
    private readonly logger: Logger,
  ) {}

  /** Undefined when there is none, or it wouldn't do: then nothing of it is left, and the caller starts one cold. */
  async start(workload: Workload, hash: string, signal: AbortSignal): Promise<ReplicaRecord | undefined> {
    const member = this.pool.take();
    if (member === undefined) return undefined;
    const { functionId, revision } = workload;
    let where = member.record;
    try {
      const record = this.recordFor(workload, hash, member);
      await this.move(member, record, workload.code);
      where = record;
      const serving = await this.giveFunction(member, record, workload, signal);
      this.logger.info(
        { functionId, replica: record.replica, revision, pid: record.process?.pid, uid: record.uid, warm: true },
        'worker started',
      );
      return serving;
    } catch (error) {
      this.logger.info({ err: error, functionId, replica: where.replica }, 'warm start failed');
      this.watch.forget(where.replica);
      await this.keeper.bury(where);
      signal.throwIfAborted();
      return undefined;
    }
  }

  private recordFor(workload: Workload, hash: string, { record }: PoolProcess): ReplicaRecord {
    const { functionId, revision, limits } = workload;
    const replica = this.files.replicaFor(functionId, record.replica);
    const { timeoutMs } = limits;
    return { ...record, replica, functionId, revision, hash, timeoutMs, startedAt: Date.now() };
  }

  /** Written first and moved then: whatever lies in a function's folder says which worker it is and that it serves not yet. */
  private async move({ record: from }: PoolProcess, record: ReplicaRecord, code: Buffer): Promise<void> {
    await this.files.makeFunctionDir(record.functionId);
    await layCode(this.files, from, code);
    await this.files.save(record, from.replica);
    const dir = this.files.replicaDir(record.functionId, record.replica);
    if (record.uid !== undefined) await this.claims?.move(record.uid, dir);
    await this.files.move(from.replica, record);
    // Again: until the folder was there, the claim could be taken for a void one.
    if (record.uid !== undefined) await this.claims?.move(record.uid, dir);
  }

  private async giveFunction(
    member: PoolProcess,
    record: ReplicaRecord,
    workload: Workload,
    signal: AbortSignal,
  ): Promise<ReplicaRecord> {
    this.watch.own(record, member.child);
    const address = { kind: 'unix', path: this.files.socket(record) } as const;
    const environment = { ...placesOf(this.files, record), ...functionVariables(workload, record) };
    await this.pool.specialise(member, { environment }, signal, address);
    const serving = { ...record, serves: true };
    await this.files.save(serving);
    this.watch.adopt(serving);
    const { good: ready } = await probeHealth(address, LOAD_MS, member.call.token);
    const { token } = member.call;
    this.prober.track(record.replica, record.functionId, address, ready ? 'ready' : 'starting', token);
    return serving;
  }
}
