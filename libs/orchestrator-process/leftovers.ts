import { execFile } from 'node:child_process';
import type { Interpreter } from './interpreter.js';

/** Where every user of this machine may leave files. */
export const SHARED_FOLDERS = ['/tmp', '/dev/shm', '/dev/mqueue'];

const CLEAR_S = 5;
/** Loading Python comes on top, on a machine that may be busy. */
const KILL_MS = 10_000;

const CLEAR = `import os
from faas_worker.supervisor.leftovers import Leftovers
from faas_worker.settings import read_settings
Leftovers(read_settings(os.environ)).clear(${CLEAR_S})`;

/**
 * What a replica's user has left on this machine: a worker that was killed could not clear it away itself. As that
 * user, who can remove nothing that is another's, whatever functions exchange for links meanwhile. Best effort:
 * resolves in time, and what is left after that stays.
 */
export async function removeLeftovers(interpreter: Pick<Interpreter, 'command' | 'env'>, uid: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const env = {
    ...interpreter.env,
    PATH: '/usr/bin:/bin',
    PYTHONDONTWRITEBYTECODE: '1',
    FAAS_SCRATCH: [...SHARED_FOLDERS, 'ipc'].join(':'),
  };
  const options = { uid, gid: uid, env, cwd: '/', timeout: KILL_MS, killSignal: 'SIGKILL' } as const;
  // One that the kernel holds up can't be killed.
  const late = setTimeout(resolve, KILL_MS + 1_000);
  try {
    execFile(interpreter.command, ['-c', CLEAR], options, () => resolve());
    await promise;
  } catch {
    // No process to be had, which whoever needs one is told.
  } finally {
    clearTimeout(late);
  }
}
