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
import { familyOf, isSame, type ProcessEntry, type ProcessIdentity, processes } from './process-table.js';
import type { ReplicaPlace, ReplicaRecord, ReplicaStore } from './replica-store.js';
import { LEAST_WORKER_UID, startAs } from './users.js';

const MIB = 1024 * 1024;
const WORKER_NICENESS = 5;
const KILL_ROUNDS = 200;
const KILL_PAUSE_MS = 10;

/** Where a worker finds its things. */
export function placesOf(
  store: ReplicaStore,
  record: ReplicaPlace & { uid: number | undefined },
): Record<string, string> {
  const workDir = store.workDir(record);
  const temporary = join(workDir, 'tmp');
  return {
    HOME: workDir,
    TMPDIR: temporary,
    // A path with a colon can't stand in such a list.
    ...(!temporary.includes(':') && {
      FAAS_SCRATCH: [temporary, ...(record.uid === undefined ? [] : [...SHARED_FOLDERS, 'ipc'])].join(':'),
    }),
    FAAS_APP_DIR: store.appDir(record),
    FAAS_SOCKET: store.address(record).path,
  };
}

/** What a worker is told of its function. */
export function functionVariables(workload: Workload, uid: number | undefined): Record<string, string> {
  const { memoryMiB, pids } = workload.limits;
  return {
    ...workerVariables(workload),
    FAAS_LIMIT_MEMORY_BYTES: String(memoryMiB * MIB),
    // The kernel counts all processes of a user: only with a user of its own does the limit mean the replica's.
    ...(uid === undefined ? {} : { FAAS_LIMIT_PIDS: String(pids) }),
  };
}

/** Lays out a replica's folder: a folder for its code, a folder for it to write, nothing for other functions. */
export async function layOut(store: ReplicaStore, record: ReplicaRecord): Promise<void> {
  const codeDir = join(store.appDir(record), 'function');
  const workDir = store.workDir(record);
  await mkdir(codeDir, { recursive: true });
  await mkdir(join(workDir, 'tmp'), { recursive: true });
  await writeFile(store.log(record), '', { mode: 0o600 });
  const { uid } = record;
  await allow(store.dir(record), uid === undefined ? 0o700 : 0o710, 0, uid);
  for (const folder of [store.appDir(record), codeDir]) await allow(folder, uid === undefined ? 0o700 : 0o750, 0, uid);
  for (const folder of [workDir, join(workDir, 'tmp')]) await allow(folder, 0o700, uid ?? 0, uid);
}

/** Its code, for it to read and for nobody else. */
export async function layCode(store: ReplicaStore, record: ReplicaRecord, code: Buffer): Promise<void> {
  const handler = join(store.appDir(record), 'function', 'handler.py');
  await writeFile(handler, code);
  await allow(handler, record.uid === undefined ? 0o600 : 0o640, 0, record.uid);
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
    ...variables,
  };
  // Python ignores an -X it doesn't know; it is there to be found in the process list.
  const worker = ['-X', store.tag(record), '-m', 'faas_worker'];
  const { command, args, user } = startAs(record.uid, interpreter.guardable, interpreter.command, worker, env);
  const stdio = ['ignore', log.fd, log.fd] as const;
  const child = spawn(command, args, {
    cwd: store.workDir(record),
    detached: true,
    stdio: [...stdio],
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
export function terminate(identity: ProcessIdentity): void {
  signalTo(identity.pid, 'SIGTERM');
}

/**
 * Ends a replica at once with everything it has started. With a uid of its own that is whatever runs under it; without,
 * its process group and descendants: the worker collects orphans, so none is missing while it lives.
 */
export async function killAll(identity: ProcessIdentity | undefined, uid: number | undefined): Promise<void> {
  for (let round = 0; round < KILL_ROUNDS; round += 1) {
    const left = remaining(await processes.read(), identity, uid);
    if (left.length === 0) return;
    if (uid === undefined) killFamily(left, identity);
    else {
      // The supervisor first, and by its pid: signals of its workers' user don't reach it.
      for (const { pid } of left) signalTo(pid, 'SIGKILL');
      await killUser(uid);
    }
    if (round > 0) await delay(KILL_PAUSE_MS);
  }
  throw new Error(`Processes of a worker outlived SIGKILL (pid ${identity?.pid}, uid ${uid}).`);
}

function remaining(
  entries: readonly ProcessEntry[],
  identity: ProcessIdentity | undefined,
  uid: number | undefined,
): ProcessEntry[] {
  const leader = entries.find((entry) => isSame(entry, identity));
  // It isn't yet that user when it has only just been started.
  if (uid !== undefined) return entries.filter((entry) => entry.uid === uid || entry === leader);
  if (identity === undefined) return [];
  const family = leader === undefined ? [] : familyOf(entries, identity.pid);
  // No new process gets a pid that is still the id of a group, so members of the group are ours even without its leader.
  const isTaken = leader === undefined && entries.some(({ pid }) => pid === identity.pid);
  const group = isTaken ? [] : entries.filter((entry) => entry.group === identity.pid && !family.includes(entry));
  return [...family, ...group];
}

/** The worker is stopped first, and killed last: it would replace what it loses, and its orphans would get away. */
function killFamily(entries: readonly ProcessEntry[], identity: ProcessIdentity | undefined): void {
  if (identity !== undefined) signalTo(identity.pid, 'SIGSTOP');
  const others = entries.filter(({ pid }) => pid !== identity?.pid);
  for (const { pid } of others) signalTo(pid, 'SIGKILL');
  if (others.length === 0 && identity !== undefined) signalTo(identity.pid, 'SIGKILL');
}

/** In one system call as that user: nothing can fork its way out of it, as it could from pids killed one by one. */
async function killUser(uid: number): Promise<void> {
  // As root it would end everything on the machine.
  if (!Number.isInteger(uid) || uid < LEAST_WORKER_UID) throw new Error(`${uid} is no worker's uid.`);
  await once(spawn('/bin/sh', ['-c', 'kill -KILL -1'], { uid, gid: uid, stdio: 'ignore', env: {} }), 'exit');
}

function signalTo(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
