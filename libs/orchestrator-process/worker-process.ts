import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, mkdir, open, writeFile } from 'node:fs/promises';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { workerVariables } from '#libs/orchestrator/generic-worker.js';
import type { Workload } from '#libs/orchestrator/workload.js';
import { SHARED_FOLDERS } from './clean-up.js';
import type { Interpreter } from './interpreter.js';
import { familyOf, isAlive, isSame, type ProcessIdentity, processes } from './process-table.js';
import type { ReplicaRecord, ReplicaStore } from './replica-store.js';
import { LEAST_WORKER_UID, processesOf, startAs } from './users.js';
import { STAMPS } from './worker-log.js';

const MIB = 1024 * 1024;
const WORKER_NICENESS = 5;
const KILL_ROUNDS = 200;
/** A process of that user may stop the one that ends it. */
const KILLER_MS = 1_000;
const KILL_PAUSE_MS = 10;

/** Where a worker finds its things. */
export function placesOf(store: ReplicaStore, record: ReplicaRecord): Record<string, string> {
  const workDir = store.workDir(record);
  const temporary = join(workDir, 'tmp');
  const scratch = [temporary, ...(record.uid === undefined ? [] : [...SHARED_FOLDERS, 'ipc'])];
  return {
    HOME: workDir,
    TMPDIR: temporary,
    // A path with a colon can't stand in such a list.
    ...(!temporary.includes(':') && { FAAS_SCRATCH: scratch.join(':') }),
    FAAS_APP_DIR: store.appDir(record),
    FAAS_SOCKET: store.address(record).path,
  };
}

/** Hands over what a replica's function is, and what the worker is told of it. */
export async function layFunction(
  store: ReplicaStore,
  record: ReplicaRecord,
  workload: Workload,
): Promise<Record<string, string>> {
  const handler = join(store.appDir(record), 'function', 'handler.py');
  await writeFile(handler, workload.code);
  await allow(handler, record.uid === undefined ? 0o600 : 0o640, 0, record.uid);
  const { memoryMiB, pids } = workload.limits;
  return {
    ...workerVariables(workload),
    ...(workload.secrets && { FAAS_SECRETS_DIR: join(store.workDir(record), 'secrets') }),
    ...(workload.layer !== undefined && { FAAS_LAYER: join(store.layersDir, workload.layer.digest) }),
    FAAS_LIMIT_MEMORY_BYTES: String(memoryMiB * MIB),
    // The kernel counts all processes of a user: only with a user of its own does the limit mean the replica's.
    ...(record.uid !== undefined && { FAAS_LIMIT_PIDS: String(pids) }),
  };
}

/** Lays out a replica's folder: a folder for its code, a folder for it to write, nothing for other functions. */
export async function layOut(store: ReplicaStore, record: ReplicaRecord): Promise<void> {
  const [appDir, workDir, { uid }] = [store.appDir(record), store.workDir(record), record];
  await mkdir(join(appDir, 'function'), { recursive: true });
  await mkdir(join(workDir, 'tmp'), { recursive: true });
  await writeFile(store.log(record), '', { mode: 0o600 });
  await allow(store.dir(record), uid === undefined ? 0o700 : 0o710, 0, uid);
  for (const folder of [appDir, join(appDir, 'function')])
    await allow(folder, uid === undefined ? 0o700 : 0o750, 0, uid);
  for (const folder of [workDir, join(workDir, 'tmp')]) await allow(folder, 0o700, uid ?? 0, uid);
}

/** The owner is left alone, and the mode set past any umask, where there is no uid to give the path to. */
async function allow(path: string, mode: number, owner: number, gid: number | undefined): Promise<void> {
  if (gid !== undefined) await chown(path, owner, gid);
  await chmod(path, mode);
}

/**
 * Starts the worker in a session of its own, so that it outlives the manager and can be ended as a group. Nothing of
 * the manager's own environment gets in.
 */
export async function startWorker(
  store: ReplicaStore,
  record: ReplicaRecord,
  variables: Readonly<Record<string, string>>,
  interpreter: Interpreter,
): Promise<ChildProcess & { pid: number }> {
  await using log = await open(store.log(record), 'a');
  const env = {
    PATH: '/usr/local/bin:/usr/bin:/bin',
    LANG: 'C.UTF-8',
    PYTHONDONTWRITEBYTECODE: '1',
    ...interpreter.env,
    ...placesOf(store, record),
    ...STAMPS,
    ...variables,
  };
  // Python ignores an -X it doesn't know; it is there to be found in the process list.
  const worker = ['-X', store.tag(record), '-m', 'faas_worker'];
  const { command, args, user } = startAs(record.uid, interpreter, worker, env);
  const child = spawn(command, args, {
    cwd: store.workDir(record),
    detached: true,
    stdio: ['ignore', log.fd, log.fd],
    env,
    ...user,
  });
  child.unref();
  if (child.pid === undefined) throw (await once(child, 'error'))[0];
  try {
    // Handlers that compute leave the manager and the database able to answer.
    setPriority(child.pid, WORKER_NICENESS);
  } catch {
    // It may have ended already, which its exit tells.
  }
  return child as ChildProcess & { pid: number };
}

/** Tells the worker to finish its calls and leave. */
export async function terminate(identity: ProcessIdentity | undefined): Promise<void> {
  if (identity !== undefined && (await isAlive(identity))) signalTo(identity.pid, 'SIGTERM');
}

/**
 * Ends a replica at once with everything it has started. With a uid of its own that is whatever runs under it; without,
 * its process group and descendants: the worker collects orphans, so none is missing while it lives.
 */
export async function killAll(identity: ProcessIdentity | undefined, uid: number | undefined): Promise<void> {
  const kill = () => (uid === undefined ? killFamily(identity) : killUser(identity, uid));
  for (let round = 0; await kill(); round += 1) {
    if (round === KILL_ROUNDS) throw new Error(`Processes of a worker outlived SIGKILL (${identity?.pid}, ${uid}).`);
    await delay(KILL_PAUSE_MS);
  }
}

/** Whether any of them was still there. */
async function killUser(identity: ProcessIdentity | undefined, uid: number): Promise<boolean> {
  // As root it would end everything on the machine.
  if (!Number.isInteger(uid) || uid < LEAST_WORKER_UID) throw new Error(`${uid} is no worker's uid.`);
  const left = new Set(await processesOf(uid));
  // It isn't yet that user when it has only just been started.
  if (identity !== undefined && (await isAlive(identity))) left.add(identity.pid);
  if (left.size === 0) return false;
  // The supervisor by its pid: signals of its workers' user don't reach it.
  for (const pid of left) signalTo(pid, 'SIGKILL');
  // In one system call as that user: nothing can fork its way out of it, as it could from pids killed one by one.
  const options = { uid, gid: uid, stdio: 'ignore', env: {}, timeout: KILLER_MS, killSignal: 'SIGKILL' } as const;
  await once(spawn('/bin/sh', ['-c', 'kill -KILL -1'], options), 'exit');
  return true;
}

/** Whether any of them was still there. */
async function killFamily(identity: ProcessIdentity | undefined): Promise<boolean> {
  if (identity === undefined) return false;
  // Spares reading what thousands of processes are.
  if (!hasGroup(identity.pid) && !(await isAlive(identity))) return false;
  const entries = await processes.read();
  const leader = entries.find((entry) => isSame(entry, identity));
  // No new process gets a pid that is still the id of a group, so members of the group are ours even without its leader.
  const isTaken = leader === undefined && entries.some(({ pid }) => pid === identity.pid);
  const group = isTaken ? [] : entries.filter(({ group: id }) => id === identity.pid);
  const family = new Set([...(leader === undefined ? [] : familyOf(entries, identity.pid)), ...group]);
  // The worker is stopped first, and killed last: it would replace what it loses, and its orphans would get away.
  if (leader !== undefined) signalTo(leader.pid, family.size > 1 ? 'SIGSTOP' : 'SIGKILL');
  for (const entry of family) if (entry !== leader) signalTo(entry.pid, 'SIGKILL');
  return family.size > 0;
}

/** Whether any process is in the group, zombies included. */
function hasGroup(id: number): boolean {
  try {
    process.kill(-id, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

function signalTo(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
