import type { ChildProcess } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import type { OneTimeToken } from '#libs/orchestrator/generic-worker.js';
import { roomIn } from '#libs/orchestrator/pool-target.js';
import type { PoolMember, PoolSource } from '#libs/orchestrator/warm-pool.js';
import type { CallToken, WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import type { FunctionLock } from './function-lock.js';
import type { Interpreter } from './interpreter.js';
import type { UidClaims } from './isolation.js';
import { launch, layOut } from './launch.js';
import { isAlive, type ProcessIdentity, type ProcessTable } from './process-table.js';
import { POOL, type ReplicaFiles, type ReplicaRecord } from './replica-files.js';
import type { ReplicaKeeper } from './replica-keeper.js';

/** No function has an id like this. */
const POOL_LOCK = 'pool';
const LOCK_MS = 10_000;

export interface PoolProcess extends PoolMember {
  readonly record: ReplicaRecord;
  readonly child: ChildProcess;
}

/** What has to be found out before a worker can be started. */
export interface Site {
  readonly interpreter: Interpreter;
  readonly lock: FunctionLock;
  readonly self: ProcessIdentity;
}

/** Generic workers as processes, each in a folder and under a user of its own from the start. */
export class PoolProcesses implements PoolSource<PoolProcess> {
  constructor(
    private readonly files: ReplicaFiles,
    private readonly table: ProcessTable,
    private readonly keeper: ReplicaKeeper,
    private readonly claims: UidClaims | undefined,
    private readonly tokens: WorkerTokens,
    private readonly site: () => Promise<Site>,
  ) {}

  async start({ token, sha256 }: OneTimeToken, _closing: AbortSignal, leaseMs: number): Promise<PoolProcess> {
    const { interpreter, self } = await this.site();
    const call = this.tokens.issue();
    const intended = await this.intend(self, call);
    try {
      const variables = { FAAS_SPECIALISE_SHA256: sha256, FAAS_GENERIC_LEASE_MS: String(leaseMs) };
      await layOut(this.files, intended);
      const child = await launch(this.files, intended, variables, call, interpreter);
      const failed = new Promise<Error>((resolve) => child.once('error', resolve));
      if (child.pid === undefined) throw await failed;
      const startTime = (await this.table.startTime(child.pid)) ?? 'ended';
      const record = { ...intended, process: { pid: child.pid, startTime } };
      await this.files.save(record);
      const address = { kind: 'unix', path: this.files.socket(record) } as const;
      return { id: record.replica, address, token, call, record, child };
    } catch (error) {
      await this.keeper.bury(intended);
      throw error;
    }
  }

  async remove({ record }: PoolProcess): Promise<void> {
    await this.keeper.bury(record);
  }

  async hasEnded({ child }: PoolProcess): Promise<boolean> {
    return child.exitCode !== null || child.signalCode !== null;
  }

  async room(members: number): Promise<number> {
    return roomIn(process.availableMemory(), members);
  }

  /** Ends the workers of managers that are gone, and clears away those that have ended. */
  async sweep(): Promise<void> {
    await using _held = await this.lock();
    for (const record of await this.files.poolMembers()) {
      if (await this.isStray(record)) await this.keeper.bury((await this.keeper.withProcess(record)) ?? record);
    }
  }

  private async isStray({ manager, process: worker }: ReplicaRecord): Promise<boolean> {
    if (manager === undefined || !(await isAlive(this.table, manager))) return true;
    return worker !== undefined && !(await isAlive(this.table, worker));
  }

  /** Under the lock, or a sweep would take the folder without a record for a leftover. */
  private async intend(manager: ProcessIdentity, { credential }: CallToken): Promise<ReplicaRecord> {
    await using _held = await this.lock();
    await this.files.makeFunctionDir(POOL);
    const replica = this.files.newReplica(POOL);
    const dir = this.files.replicaDir(POOL, replica);
    await mkdir(dir, { mode: 0o700 });
    const record: ReplicaRecord = {
      replica,
      functionId: POOL,
      revision: 0,
      hash: '',
      timeoutMs: 0,
      startedAt: Date.now(),
      uid: await this.claims?.claim(dir),
      process: undefined,
      drainUntil: undefined,
      credential,
      manager,
      serves: false,
    };
    await this.files.save(record);
    return record;
  }

  private async lock(): Promise<AsyncDisposable> {
    const { lock } = await this.site();
    return lock.acquire(this.files.lock(POOL_LOCK), AbortSignal.timeout(LOCK_MS));
  }
}
