import { type ChildProcess, spawn } from 'node:child_process';
import { chmod, chown, mkdir, open, writeFile } from 'node:fs/promises';
import { setPriority } from 'node:os';
import { dirname, join } from 'node:path';
import type { Workload } from '#libs/orchestrator/workload.js';
import type { Interpreter } from './interpreter.js';
import type { ReplicaFiles, ReplicaRecord } from './replica-files.js';

const MIB = 1024 * 1024;
const WORKER_NICENESS = 5;

/** All that a worker sees of an environment; nothing of the manager's own gets in. */
function workerEnvironment(
  workload: Workload,
  interpreter: Interpreter,
  places: { readonly socket: string; readonly appDir: string; readonly workDir: string },
  ownUser: boolean,
): Record<string, string> {
  const { timeoutMs, concurrency, memoryMiB, pids } = workload.limits;
  return {
    PATH: '/usr/local/bin:/usr/bin:/bin',
    LANG: 'C.UTF-8',
    HOME: places.workDir,
    TMPDIR: join(places.workDir, 'tmp'),
    PYTHONDONTWRITEBYTECODE: '1',
    ...interpreter.env,
    HANDLER_FUNCTION: `function.handler.${workload.functionName}`,
    FAAS_FUNCTION: workload.functionId,
    FAAS_APP_DIR: places.appDir,
    FAAS_SOCKET: places.socket,
    FAAS_TIMEOUT_MS: String(timeoutMs),
    FAAS_CONCURRENCY: String(concurrency),
    FAAS_LIMIT_MEMORY_BYTES: String(memoryMiB * MIB),
    // The kernel counts all processes of a user: only with a user of its own does the limit mean the replica's.
    ...(ownUser ? { FAAS_LIMIT_PIDS: String(pids) } : {}),
  };
}

/** Lays out a replica's folder: its code for it to read, a folder for it to write, nothing for other functions. */
export async function layOut(files: ReplicaFiles, record: ReplicaRecord, code: Buffer): Promise<void> {
  const handler = join(files.appDir(record), 'function', 'handler.py');
  const workDir = files.workDir(record);
  await mkdir(dirname(handler), { recursive: true });
  await mkdir(join(workDir, 'tmp'), { recursive: true });
  await writeFile(handler, code);
  await writeFile(files.log(record), '', { mode: 0o600 });
  const { uid } = record;
  await allow(files.replicaDir(record.functionId, record.replica), uid === undefined ? 0o700 : 0o710, 0, uid);
  for (const folder of [files.appDir(record), dirname(handler)]) {
    await allow(folder, uid === undefined ? 0o700 : 0o750, 0, uid);
  }
  await allow(handler, uid === undefined ? 0o600 : 0o640, 0, uid);
  for (const folder of [workDir, join(workDir, 'tmp')]) await allow(folder, 0o700, uid ?? 0, uid);
}

/** The owner is left alone, and the mode set past any umask, where there is no uid to give the path to. */
async function allow(path: string, mode: number, owner: number, gid: number | undefined): Promise<void> {
  if (gid !== undefined) await chown(path, owner, gid);
  await chmod(path, mode);
}

/** Starts the worker in a session of its own, so that it outlives the manager and can be ended as a group. */
export async function launch(
  files: ReplicaFiles,
  record: ReplicaRecord,
  workload: Workload,
  interpreter: Interpreter,
): Promise<ChildProcess> {
  const workDir = files.workDir(record);
  const places = { socket: files.socket(record), appDir: files.appDir(record), workDir };
  const log = await open(files.log(record), 'a');
  try {
    // Python ignores an -X it doesn't know; it is there to be found in the process list.
    const child = spawn(interpreter.command, ['-X', files.tag(record), '-m', 'faas_worker'], {
      cwd: workDir,
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
      env: workerEnvironment(workload, interpreter, places, record.uid !== undefined),
      ...(record.uid === undefined ? {} : { uid: record.uid, gid: record.uid }),
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
