import { createHash, randomBytes, randomInt } from 'node:crypto';
import { access, chmod, mkdir, readdir, readFile, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { FunctionId, WorkloadFault } from '#libs/orchestrator/workload.js';
import { removeTrees } from './clean-up.js';
import type { ProcessIdentity } from './process-table.js';
import { processesOf, type UidRange } from './users.js';

/** Stands for the function of a generic worker that has none; no function has an id like this. */
export const POOL = '.pool';
const UNNAMED = 2 ** 32;
const MOST_ATTEMPTS = 100;

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
  /** What its token is made of. */
  readonly credential: string;
  /** Only of one that came from the pool: who started it. */
  readonly manager?: ProcessIdentity;
  /** Only of one that came from the pool: false until it has its function. */
  readonly serves?: boolean;
}

/** Where a replica's folder is: records are found by it, and it names them. */
export type ReplicaPlace = Pick<ReplicaRecord, 'functionId' | 'replica'>;

/** What has to be known of a replica to end it and clear it away. */
export type Clearable = ReplicaPlace & Pick<ReplicaRecord, 'uid' | 'process'>;

export interface ReplicaExit {
  /** Both null when nobody saw it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
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
 * One owner's files: `<runtimeDir>/<owner>/<function>/<replica>/`. Other functions may pass through the upper folders,
 * but neither list them nor enter each other's replicas.
 */
export class ReplicaStore {
  readonly ownerKey: string;
  readonly ownerDir: string;
  /** Where layers are unpacked. */
  readonly layersDir: string;

  /**
   * @param uids for workers; undefined: they run as the manager's user
   * @param layersDir for the layers of all owners; undefined: beside the workers
   */
  constructor(
    runtimeDir: string,
    owner: string,
    private readonly uids?: UidRange,
    layersDir?: string,
  ) {
    this.ownerKey = createHash('sha256').update(owner).digest('hex').slice(0, 10);
    this.ownerDir = join(runtimeDir, this.ownerKey);
    this.layersDir = layersDir === undefined ? join(this.ownerDir, '.layers') : join(layersDir, this.ownerKey);
  }

  functionDir(functionId: FunctionId): string {
    return join(this.ownerDir, functionId);
  }

  dir({ functionId, replica }: ReplicaPlace): string {
    return join(this.functionDir(functionId), replica.slice(replica.lastIndexOf('-') + 1));
  }

  /** The only folder a replica may write to. */
  workDir(place: ReplicaPlace): string {
    return join(this.dir(place), 'w');
  }

  address(place: ReplicaPlace): { readonly kind: 'unix'; readonly path: string } {
    return { kind: 'unix', path: join(this.workDir(place), 's') };
  }

  appDir(place: ReplicaPlace): string {
    return join(this.dir(place), 'app');
  }

  log(place: ReplicaPlace): string {
    return join(this.dir(place), 'log');
  }

  /** In the command line of every process of the replica; finds one whose manager ended before it noted the pid. */
  tag({ replica }: ReplicaPlace): string {
    return `faas_replica=${this.ownerKey}/${replica}`;
  }

  async functions(): Promise<FunctionId[]> {
    const names = await orElse(readdir(this.ownerDir), []);
    return names.filter((name) => !name.startsWith('.'));
  }

  /**
   * Makes a new replica's folder. It bears the name of its uid, so that no two replicas have one user: functions can't
   * read each other's files or signal each other, and all that a replica ever started can be ended by its uid.
   */
  async claim(functionId: FunctionId): Promise<ReplicaPlace & Pick<ReplicaRecord, 'uid'>> {
    await this.makeFunctionDir(functionId);
    for (let attempt = 0; attempt < MOST_ATTEMPTS; attempt += 1) {
      const uid = this.uids && this.uids.first + randomInt(this.uids.count);
      const name = (uid ?? randomInt(UNNAMED)).toString(16).padStart(8, '0');
      const place = { functionId, replica: `${functionId}-${name}` };
      try {
        await mkdir(this.dir(place), { mode: 0o700 });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
        continue;
      }
      const isFree = uid === undefined || ((await this.isOnly(place)) && (await processesOf(uid)).length === 0);
      if (isFree) return { ...place, uid };
      // Made by another process in the same moment, perhaps; that one finds both as well.
      await rmdir(this.dir(place));
    }
    throw new Error('no uid is free for a worker');
  }

  /** Replicas with a record, oldest first. */
  async load(functionId: FunctionId): Promise<ReplicaRecord[]> {
    return (await this.look(functionId)).records;
  }

  /**
   * `records` as `load` has them. `halfMade`: folders without one, since a manager ended before it started a process, or
   * while it cleared it away; or another one is making it just now.
   */
  async look(functionId: FunctionId): Promise<{ records: ReplicaRecord[]; halfMade: Clearable[] }> {
    const dir = this.functionDir(functionId);
    const entries = await orElse(readdir(dir, { withFileTypes: true }), []);
    const records: ReplicaRecord[] = [];
    const halfMade: Clearable[] = [];
    for (const { name } of entries.filter((entry) => entry.isDirectory())) {
      const place = { functionId, replica: `${functionId}-${name}` };
      const record = await read<ReplicaRecord>(join(dir, name, 'record.json'));
      if (record !== undefined) records.push({ ...record, ...place });
      else halfMade.push({ ...place, uid: this.uidOf(name), process: undefined });
    }
    records.sort((a, b) => a.startedAt - b.startedAt || (a.replica < b.replica ? -1 : 1));
    return { records, halfMade };
  }

  /** Whether nothing was put into its folder, or taken out of it, for so long. */
  async isOlder(place: ReplicaPlace, ms: number): Promise<boolean> {
    const found = await orElse(stat(this.dir(place)), undefined);
    return found !== undefined && Date.now() - found.mtimeMs > ms;
  }

  /** Whether it hasn't been cleared away. */
  has(place: ReplicaPlace): Promise<boolean> {
    return orElse(
      access(this.dir(place)).then(() => true),
      false,
    );
  }

  save(record: ReplicaRecord): Promise<void> {
    return write(join(this.dir(record), 'record.json'), record);
  }

  /** Gives a generic worker's folder to a function, where it keeps its name. */
  async move(member: ReplicaPlace, functionId: FunctionId): Promise<ReplicaPlace> {
    const place = { functionId, replica: member.replica.replace(POOL, functionId) };
    await this.makeFunctionDir(functionId);
    await rename(this.dir(member), this.dir(place));
    return place;
  }

  exitOf(place: ReplicaPlace): Promise<ReplicaExit | undefined> {
    return read(join(this.dir(place), 'exit.json'));
  }

  saveExit(place: ReplicaPlace, exit: ReplicaExit): Promise<void> {
    return write(join(this.dir(place), 'exit.json'), exit);
  }

  async faultOf(functionId: FunctionId): Promise<FaultRecord | undefined> {
    const found = await read<FaultRecord>(join(this.functionDir(functionId), 'fault.json'));
    return found && { ...found, reason: { ...found.reason, at: new Date(found.reason.at) } };
  }

  saveFault(functionId: FunctionId, fault: FaultRecord): Promise<void> {
    return write(join(this.functionDir(functionId), 'fault.json'), fault);
  }

  removeFault(functionId: FunctionId): Promise<void> {
    return rm(join(this.functionDir(functionId), 'fault.json'), { force: true });
  }

  /** The record goes last: while there is one, somebody still looks after the replica. */
  async removeReplica(place: ReplicaPlace): Promise<void> {
    const dir = this.dir(place);
    const names = (await orElse(readdir(dir), [])).filter((name) => name !== 'record.json');
    await removeTrees(names.map((name) => join(dir, name)));
    await rm(dir, { recursive: true, force: true });
  }

  async removeFunction(functionId: FunctionId): Promise<void> {
    await rm(this.functionDir(functionId), { recursive: true, force: true });
  }

  /** Undefined for a folder of another naming, such as of a manager that couldn't switch users. */
  private uidOf(name: string): number | undefined {
    if (this.uids === undefined) return undefined;
    const uid = Number.parseInt(name, 16);
    return uid >= this.uids.first && uid < this.uids.first + this.uids.count ? uid : undefined;
  }

  private async makeFunctionDir(functionId: FunctionId): Promise<void> {
    await mkdir(this.functionDir(functionId), { recursive: true });
    // Whatever the umask: its replicas must get through.
    await chmod(this.functionDir(functionId), 0o711);
  }

  /** Whether no other function has a replica of this name. */
  private async isOnly({ functionId, replica }: ReplicaPlace): Promise<boolean> {
    for (const other of await readdir(this.ownerDir)) {
      const namesake = { functionId: other, replica };
      if (other !== functionId && (await this.has(namesake))) return false;
    }
    return true;
  }
}

async function read<T>(path: string): Promise<T | undefined> {
  const text = await orElse(readFile(path, 'utf8'), undefined);
  // A machine that lost its power may have left it empty.
  return text === undefined || text === '' ? undefined : (JSON.parse(text) as T);
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
