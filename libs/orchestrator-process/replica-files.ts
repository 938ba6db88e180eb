import { createHash, randomBytes } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { FunctionId, WorkloadFault } from '#libs/orchestrator/workload.js';
import type { ProcessIdentity } from './process-table.js';
import { removeTrees } from './remove-tree.js';

/** Linux keeps a UNIX socket's path in 108 bytes, the last of them a NUL. */
export const SOCKET_PATH_BYTES = 107;

/** What is known of one replica; written before its process exists, so that no process can be lost. */
export interface ReplicaRecord {
  readonly replica: string;
  readonly functionId: FunctionId;
  readonly revision: number;
  readonly hash: string;
  readonly timeoutMs: number;
  readonly startedAt: number;
  /** Undefined where the manager can't switch users. */
  readonly uid: number | undefined;
  /** Undefined until the process was started, or when the manager ended in between. */
  readonly process: ProcessIdentity | undefined;
  /** It was told to leave, and is killed at this time. */
  readonly drainUntil: number | undefined;
  /** What its token is made of; undefined for one that answers whoever calls. */
  readonly credential?: string;
  /** Only of one that came from the pool: who started it. */
  readonly manager?: ProcessIdentity;
  /** Only of one that came from the pool: false until it has its function. */
  readonly serves?: boolean;
}

/** Stands for the function of a worker that has none: such a one lives in a folder that is no function's. */
export const POOL = '.pool';

export interface ReplicaExit {
  readonly code: number | null;
  readonly signal: string | null;
  readonly at: number;
}

/** What last went wrong with a function, and with which spec. */
export interface FaultRecord {
  readonly hash: string;
  readonly reason: WorkloadFault;
  /** Replicas of that spec that ended by themselves and weren't replaced yet. */
  readonly owed: number;
}

/**
 * Where one owner's files are: `<runtimeDir>/<owner>/<function>/<replica>/`. Other functions may pass through the upper
 * folders, but neither list them nor enter each other's replicas.
 */
export class ReplicaFiles {
  readonly ownerKey: string;
  readonly ownerDir: string;

  constructor(
    readonly runtimeDir: string,
    owner: string,
  ) {
    this.ownerKey = createHash('sha256').update(owner).digest('hex').slice(0, 10);
    this.ownerDir = join(runtimeDir, this.ownerKey);
  }

  newReplica(functionId: FunctionId): string {
    return `${functionId}-${randomBytes(4).toString('hex')}`;
  }

  /** The name that a worker of the pool has as a function's: their folders bear the same name, so one can be moved. */
  replicaFor(functionId: FunctionId, member: string): string {
    return `${functionId}${member.slice(member.lastIndexOf('-'))}`;
  }

  functionDir(functionId: FunctionId): string {
    return join(this.ownerDir, functionId);
  }

  replicaDir(functionId: FunctionId, replica: string): string {
    return join(this.functionDir(functionId), replica.slice(replica.lastIndexOf('-') + 1));
  }

  /** The only folder a replica may write to. */
  workDir(record: Pick<ReplicaRecord, 'functionId' | 'replica'>): string {
    return join(this.replicaDir(record.functionId, record.replica), 'w');
  }

  socket(record: Pick<ReplicaRecord, 'functionId' | 'replica'>): string {
    return join(this.workDir(record), 's');
  }

  appDir(record: Pick<ReplicaRecord, 'functionId' | 'replica'>): string {
    return join(this.replicaDir(record.functionId, record.replica), 'app');
  }

  log(record: Pick<ReplicaRecord, 'functionId' | 'replica'>): string {
    return join(this.replicaDir(record.functionId, record.replica), 'log');
  }

  get lockDir(): string {
    return join(this.ownerDir, '.locks');
  }

  lock(functionId: FunctionId): string {
    return join(this.lockDir, functionId);
  }

  /** In the command line of every process of the replica; finds one whose manager ended before it noted the pid. */
  tag(record: Pick<ReplicaRecord, 'functionId' | 'replica'>): string {
    return `faas_replica=${this.ownerKey}/${record.replica}`;
  }

  async functions(): Promise<FunctionId[]> {
    const names = await orElse(readdir(this.ownerDir), []);
    return names.filter((name) => !name.startsWith('.'));
  }

  /** Replicas with a record. A folder without one never had a process, or was left half removed: it goes. */
  async load(functionId: FunctionId): Promise<ReplicaRecord[]> {
    const dir = this.functionDir(functionId);
    const entries = await orElse(readdir(dir, { withFileTypes: true }), []);
    const records: ReplicaRecord[] = [];
    for (const entry of entries.filter((candidate) => candidate.isDirectory())) {
      const record = await this.read<ReplicaRecord>(join(dir, entry.name, 'record.json'));
      if (record === undefined) await rm(join(dir, entry.name), { recursive: true, force: true });
      else records.push(record);
    }
    return records.toSorted((a, b) => a.startedAt - b.startedAt || (a.replica < b.replica ? -1 : 1));
  }

  /** Records without the cleaning, for whoever doesn't hold the function's lock. */
  async peek(functionId: FunctionId): Promise<ReplicaRecord[]> {
    const dir = this.functionDir(functionId);
    const entries = await orElse(readdir(dir, { withFileTypes: true }), []);
    const folders = entries.filter((candidate) => candidate.isDirectory());
    const read = await Promise.all(folders.map(({ name }) => this.read<ReplicaRecord>(join(dir, name, 'record.json'))));
    return read.filter((record) => record !== undefined);
  }

  /** @param member the worker of the pool it still is */
  save(record: ReplicaRecord, member?: string): Promise<void> {
    const dir =
      member === undefined ? this.replicaDir(record.functionId, record.replica) : this.replicaDir(POOL, member);
    return write(join(dir, 'record.json'), record);
  }

  exitOf(record: ReplicaRecord): Promise<ReplicaExit | undefined> {
    return this.read(join(this.replicaDir(record.functionId, record.replica), 'exit.json'));
  }

  saveExit(record: ReplicaRecord, exit: ReplicaExit): Promise<void> {
    return write(join(this.replicaDir(record.functionId, record.replica), 'exit.json'), exit);
  }

  async faultOf(functionId: FunctionId): Promise<FaultRecord | undefined> {
    const found = await this.read<FaultRecord>(join(this.functionDir(functionId), 'fault.json'));
    return found && { ...found, reason: { ...found.reason, at: new Date(found.reason.at) } };
  }

  saveFault(functionId: FunctionId, fault: FaultRecord): Promise<void> {
    return write(join(this.functionDir(functionId), 'fault.json'), fault);
  }

  async makeFunctionDir(functionId: FunctionId): Promise<void> {
    await mkdir(this.functionDir(functionId), { recursive: true });
    // Whatever the umask: its replicas must get through.
    await chmod(this.functionDir(functionId), 0o711);
  }

  /** The record goes last: while there is one, somebody still looks after the replica. */
  async removeReplica(record: ReplicaRecord): Promise<void> {
    const dir = this.replicaDir(record.functionId, record.replica);
    const names = (await orElse(readdir(dir), [])).filter((name) => name !== 'record.json');
    await removeTrees(names.map((name) => join(dir, name)));
    await rm(dir, { recursive: true, force: true });
  }

  /** From the pool to its function; its record is the function's already. */
  async move(member: string, record: ReplicaRecord): Promise<void> {
    await rename(this.replicaDir(POOL, member), this.replicaDir(record.functionId, record.replica));
  }

  /** What the pool's folder holds, whatever became of it in between. */
  async poolMembers(): Promise<ReplicaRecord[]> {
    const records = await this.load(POOL);
    // One that was about to be moved bears its function's name already.
    return records.map((record) => ({ ...record, functionId: POOL, replica: this.replicaFor(POOL, record.replica) }));
  }

  async removeFunction(functionId: FunctionId): Promise<void> {
    await rm(this.functionDir(functionId), { recursive: true, force: true });
  }

  private async read<T>(path: string): Promise<T | undefined> {
    const text = await orElse(readFile(path, 'utf8'), undefined);
    return text === undefined ? undefined : (JSON.parse(text) as T);
  }
}

/** By rename, so that a reader sees the file whole or not at all. */
async function write(path: string, value: unknown): Promise<void> {
  const draft = `${path}.${randomBytes(4).toString('hex')}`;
  await writeFile(draft, JSON.stringify(value), { mode: 0o600 });
  await rename(draft, path);
}

async function orElse<T, U>(reading: Promise<T>, absent: U): Promise<T | U> {
  try {
    return await reading;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return absent;
    throw error;
  }
}
