import { chmod, lstat } from 'node:fs/promises';
import type { ProcessConfig } from '#libs/config/config.js';
import { makeFolder } from '#libs/files/make-folder.js';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import { findInterpreter, type Interpreter } from './interpreter.js';
import { type ReplicaFiles, SOCKET_PATH_BYTES } from './replica-files.js';

const LONGEST = { functionId: 'x'.repeat(16), replica: `${'x'.repeat(16)}-${'0'.repeat(8)}` };

/** Checks that workers can live here and makes their folders; says what to do when they can't. */
export async function prepareSite(
  config: ProcessConfig,
  files: ReplicaFiles,
  workerUid: number | undefined,
): Promise<Interpreter> {
  const bytes = Buffer.byteLength(files.socket(LONGEST));
  if (bytes > SOCKET_PATH_BYTES) {
    const excess = bytes - SOCKET_PATH_BYTES;
    throw new OrchestratorUnavailable('process', `the runtime folder's path is ${excess} bytes too long for sockets`);
  }
  try {
    await makePassable(config.runtimeDir);
    await makePassable(files.ownerDir);
    return await findInterpreter(config, workerUid);
  } catch (error) {
    if (error instanceof OrchestratorUnavailable) throw error;
    throw new OrchestratorUnavailable('process', String(error), error);
  }
}

/** In a folder such as `/tmp` anybody may have made one before us, and would own what we put into it. */
async function makePassable(folder: string): Promise<void> {
  await makeFolder(folder, 0o755);
  const found = await lstat(folder);
  const self = process.geteuid?.();
  if (!found.isDirectory() || (self !== undefined && found.uid !== self)) {
    throw new OrchestratorUnavailable('process', `${folder} is not a folder of this user`);
  }
  await chmod(folder, 0o711);
}
