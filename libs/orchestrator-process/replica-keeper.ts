import { mkdir } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import type { HealthProber } from '#libs/orchestrator/health-probe.js';
import type { WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import type { FunctionId, Workload, WorkloadFault } from '#libs/orchestrator/workload.js';
import { killAll, terminate } from './ending.js';
import { faultOfExit } from './exit-fault.js';
import type { Interpreter } from './interpreter.js';
import type { UidClaims } from './isolation.js';
import { removeLeftovers } from './leftovers.js';
import { functionVariables, launch, layCode, layOut } from './launch.js';
import type { ProcessTable } from './process-table.js';
import { POOL, type ReplicaFiles, type ReplicaRecord } from './replica-files.js';
import type { ReplicaWatch } from './replica-watch.js';
import type { WorkerLogs } from './worker-log.js';

/** A worker that drains by itself gets this much longer than its calls may take. */
const DRAIN_MARGIN_MS = 2_000;
const WAIT_STEP_MS = 20;

/** The steps that change one function's replicas. Each expects its caller to hold the function's lock. */
export class ReplicaKeeper {
  constructor(
    private readonly files: ReplicaFiles,
    private readonly table: ProcessTable,
    private readonly watch: ReplicaWatch,
    private readonly prober: HealthProber,
    private readonly logs: WorkerLogs,
    private readonly claims: UidClaims | undefined,
    private readonly tokens: WorkerTokens,
    private readonly interpreter: () => Promise<Interpreter>,
    private readonly logger: Logger,
  ) {}

  /** Finds out what still lives, notes why the rest ended and clears it away. */
  async settle(functionId: FunctionId): Promise<ReplicaRecord[]> {
    const living: ReplicaRecord[] = [];
    for (const loaded of await this.files.load(functionId)) {
      const record = await this.withProcess(loaded);
      // One from the pool whose manager ended before it gave it its function: we hold the lock, so nobody still does.
      if (record === undefined || record.serves === false) {
        await this.bury(record ?? loaded);
        continue;
      }
      this.watch.adopt(record);
      const end = await this.watch.endOf(record);
      if (end !== undefined) {
        if (record.drainUntil === undefined) {
          const exit = end.at === undefined ? undefined : { code: null, signal: null, at: end.at, ...end };
          const at = new Date(end.at ?? Date.now());
          await this.noteFault(record, faultOfExit(exit, await this.logs.tailOf(record), at));
        }
        await this.bury(record);
      } else if (record.drainUntil !== undefined && Date.now() >= record.drainUntil) {
        await this.bury(record);
      } else if (record.drainUntil === undefined && this.prober.health(record.replica) === 'unhealthy') {
        const message = 'The worker stopped answering and was ended.';
        await this.noteFault(record, { code: 'worker_crashed', message, terminal: false, at: new Date() });
        await this.bury(record);
      } else living.push(record);
    }
    return living;
  }

  async start(workload: Workload, hash: string, interpreter: Interpreter): Promise<ReplicaRecord> {
    const { functionId, revision, limits } = workload;
    const replica = this.files.newReplica(functionId);
    const dir = this.files.replicaDir(functionId, replica);
    await this.files.makeFunctionDir(functionId);
    await mkdir(dir, { mode: 0o700 });
    const call = this.tokens.issue();
    const intended: ReplicaRecord = {
      replica,
      functionId,
      revision,
      hash,
      timeoutMs: limits.timeoutMs,
      startedAt: Date.now(),
      uid: await this.claims?.claim(dir),
      process: undefined,
      drainUntil: undefined,
      credential: call.credential,
    };
    await this.files.save(intended);
    await layOut(this.files, intended);
    await layCode(this.files, intended, workload.code);
    const child = await launch(this.files, intended, functionVariables(workload, intended), call, interpreter);
    const failed = new Promise<Error>((resolve) => child.once('error', resolve));
    if (child.pid === undefined) {
      await this.bury(intended);
      const cause = await failed;
      throw new OrchestratorUnavailable('process', `the worker can't be started: ${cause.message}`, cause);
    }
    // One that ended within this instant has no start time left, and matches no later process.
    const startTime = (await this.table.startTime(child.pid)) ?? 'ended';
    const record = { ...intended, process: { pid: child.pid, startTime } };
    this.watch.own(record, child);
    await this.files.save(record);
    const address = { kind: 'unix', path: this.files.socket(record) } as const;
    this.prober.track(replica, functionId, address, 'starting', call.token);
    this.logger.info({ functionId, replica, revision, pid: child.pid, uid: record.uid }, 'worker started');
    return record;
  }

  /** Tells a replica to leave. It keeps the earlier of two deadlines. */
  async drain(record: ReplicaRecord, graceMs = record.timeoutMs + DRAIN_MARGIN_MS): Promise<ReplicaRecord> {
    const until = Math.min(record.drainUntil ?? Infinity, Date.now() + graceMs);
    const draining = { ...record, drainUntil: until };
    // Noted first: without the note, its exit would count as a crash.
    await this.files.save(draining);
    this.watch.adopt(draining);
    this.prober.forget(record.replica);
    if (record.drainUntil === undefined && record.process !== undefined) await terminate(this.table, record.process);
    return draining;
  }

  /** Resolves when all have ended or the time is over. */
  async waitForEnd(records: readonly ReplicaRecord[], graceMs: number, signal: AbortSignal): Promise<void> {
    const deadline = Date.now() + graceMs;
    for (const record of records) {
      while (Date.now() < deadline && (await this.watch.endOf(record)) === undefined) {
        await delay(Math.min(WAIT_STEP_MS, deadline - Date.now() + 1), undefined, { signal });
      }
    }
  }

  /** Ends whatever is left of a replica and clears it away; its log is kept for a while. */
  async bury(record: ReplicaRecord): Promise<void> {
    this.prober.forget(record.replica);
    await killAll(this.table, record.process, record.uid);
    if (record.functionId !== POOL) await this.logs.keep(record);
    this.watch.forget(record.replica);
    await this.files.removeReplica(record);
    if (record.uid === undefined) return;
    await removeLeftovers(await this.interpreter(), record.uid);
    await this.claims?.release(record.uid);
  }

  /** What a manager that was killed between starting a process and noting its pid left behind is found by its tag. */
  async withProcess(record: ReplicaRecord): Promise<ReplicaRecord | undefined> {
    if (record.process !== undefined) return record;
    const found = await this.table.tagged(this.files.tag(record));
    const leader = found.find(({ pid, group, uid }) => pid === group && uid === (record.uid ?? uid));
    if (leader === undefined) return undefined;
    const known = { ...record, process: { pid: leader.pid, startTime: leader.startTime } };
    await this.files.save(known);
    this.logger.info(
      { functionId: record.functionId, replica: record.replica, pid: leader.pid },
      'stray worker adopted',
    );
    return known;
  }

  private async noteFault(record: ReplicaRecord, reason: WorkloadFault): Promise<void> {
    const { functionId, replica, hash } = record;
    const before = await this.files.faultOf(functionId);
    const owed = before?.hash === hash ? before.owed + 1 : 1;
    await this.files.saveFault(functionId, { hash, reason, owed });
    this.logger.warn({ functionId, replica, code: reason.code, reason: reason.message }, 'worker ended by itself');
  }
}
