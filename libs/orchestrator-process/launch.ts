import { type ChildProcess, spawn } from 'node:child_process';
import { chmod, chown, mkdir, open, writeFile } from 'node:fs/promises';
import { setPriority } from 'node:os';
import { dirname, join } from 'node:path';
import { workerVariables } from '#libs/orchestrator/generic-worker.js';
import type { CallToken } from '#libs/orchestrator/worker-tokens.js';
import type { Workload } from '#libs/orchestrator/workload.js';
import { asArguments, guardedStart, plainStart } from './guarded-start.js';
import type { Interpreter } from './interpreter.js';
import { SHARED_FOLDERS } from './leftovers.js';
import type { ReplicaFiles, ReplicaRecord } from './replica-files.js';

const MIB = 1024 * 1024;
const WORKER_NICENESS = 5;

/** Where a worker finds its things. */
export function placesOf(files: ReplicaFiles, record: ReplicaRecord): Record<string, string> {
  const workDir = files.workDir(record);
  const temporary = join(workDir, 'tmp');
  return {
    HOME: workDir,
    TMPDIR: temporary,
    // A path with a colon can't stand in such a list.
    ...(!temporary.includes(':') && {
      FAAS_SCRATCH: [temporary, ...(record.uid === undefined ? [] : [...SHARED_FOLDERS, 'ipc'])].join(':'),
    }),
    FAAS_APP_DIR: files.appDir(record),
    FAAS_SOCKET: files.socket(record),
  };
}

/** What a worker is told of its function. */
export function functionVariables(workload: Workload, { uid }: ReplicaRecord): Record<string, string> {
  const { memoryMiB, pids } = workload.limits;
  return {
    ...workerVariables(workload),
    FAAS_LIMIT_MEMORY_BYTES: String(memoryMiB * MIB),
    // The kernel counts all processes of a user: only with a user of its own does the limit mean the replica's.
    ...(uid === undefined ? {} : { FAAS_LIMIT_PIDS: String(pids) }),
  };
}

/** Lays out a replica's folder: a folder for its code, a folder for it to write, nothing for other functions. */
export async function layOut(files: ReplicaFiles, record: ReplicaRecord): Promise<void> {
  const codeDir = dirname(handlerOf(files, record));
  const workDir = files.workDir(record);
  await mkdir(codeDir, { recursive: true });
  await mkdir(join(workDir, 'tmp'), { recursive: true });
  await writeFile(files.log(record), '', { mode: 0o600 });
  const { uid } = record;
  await allow(files.replicaDir(record.functionId, record.replica), uid === undefined ? 0o700 : 0o710, 0, uid);
  for (const folder of [files.appDir(record), codeDir]) {
    await allow(folder, uid === undefined ? 0o700 : 0o750, 0, uid);
  }
  for (const folder of [workDir, join(workDir, 'tmp')]) await allow(folder, 0o700, uid ?? 0, uid);
}

/** Its code, for it to read and for nobody else. */
export async function layCode(files: ReplicaFiles, record: ReplicaRecord, code: Buffer): Promise<void> {
  const handler = handlerOf(files, record);
  await writeFile(handler, code);
  await allow(handler, record.uid === undefined ? 0o600 : 0o640, 0, record.uid);
}

function handlerOf(files: ReplicaFiles, record: ReplicaRecord): string {
  return join(files.appDir(record), 'function', 'handler.py');
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
export async function launch(
  files: ReplicaFiles,
  record: ReplicaRecord,
  variables: Readonly<Record<string, string>>,
  call: Pick<CallToken, 'sha256'>,
  interpreter: Interpreter,
): Promise<ChildProcess> {
  const log = await open(files.log(record), 'a');
  const env = {
    PATH: '/usr/local/bin:/usr/bin:/bin',
    LANG: 'C.UTF-8',
    PYTHONDONTWRITEBYTECODE: '1',
    ...interpreter.env,
    ...placesOf(files, record),
    ...variables,
    FAAS_CALL_SHA256: call.sha256,
  };
  try {
    // Python ignores an -X it doesn't know; it is there to be found in the process list.
    const worker = ['-X', files.tag(record), '-m', 'faas_worker'];
    const { command, args, identity } =
      record.uid !== undefined && interpreter.guardable
        ? guardedStart(interpreter.command, [...worker, ...asArguments(env)], record.uid)
        : plainStart(interpreter.command, worker, record.uid);
    const child = spawn(command, args, {
      cwd: files.workDir(record),
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
      env,
      ...identity,
    });
    if (child.pid !== undefined) beNice(child.pid);
    child.unref();
    return child;
  } finally {
    await log.close();
  }
}

/** Best effort: handlers that compute leave the manager and the database able to answer. */
function beNice(pid: number): void {
  try {
    setPriority(pid, WORKER_NICENESS);
  } catch {
    // It may have ended already, which its exit tells.
  }
}
