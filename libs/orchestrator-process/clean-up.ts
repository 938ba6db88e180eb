import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { within } from '#libs/deadlines/within.js';

/** Where every user of this machine may leave files. */
export const SHARED_FOLDERS = ['/tmp', '/dev/shm', '/dev/mqueue'];

const REMOVE_MS = 10_000;
const OWN = `find ${SHARED_FOLDERS.join(' ')} -mindepth 1 -maxdepth 1 -user "$(id -u)"`;
/** Folders alone are opened first: what a link leads to is none of its own. */
const CLEAR = `${OWN} -type d -exec chmod -R u+rwX {} +; ${OWN} -exec rm -rf -- {} +; ipcrm --all`;
const run = promisify(execFile);

/**
 * Removes what a worker could write, as root: unlike Node's own `rm`, which goes by paths, the program goes from folder
 * to folder by descriptors, so that it is led nowhere else by who exchanges a folder for a link meanwhile. Rejects when
 * it isn't done in 10 s, whether or not it can be ended; then it can be called again and goes on.
 */
export async function removeTrees(paths: readonly string[]): Promise<void> {
  if (paths.length === 0) return;
  await within('removing files', { ms: REMOVE_MS }, (signal) =>
    run('rm', ['-rf', '--', ...paths], { signal, killSignal: 'SIGKILL' }),
  );
}

/**
 * What a replica's user has left elsewhere on this machine, files and System V objects: a worker that was killed could
 * not clear it away itself. As that user, who can remove nothing that is another's, whatever functions exchange for
 * links meanwhile. Best effort: resolves in time, and what is left after that stays.
 */
export async function removeLeftovers(uid: number): Promise<void> {
  const user = { uid, gid: uid, cwd: '/', env: { PATH: '/usr/bin:/bin' } };
  const clearing = within('clearing away', { ms: REMOVE_MS }, () =>
    run('timeout', ['-s', 'KILL', '9', '/bin/sh', '-c', CLEAR], user),
  );
  // It fails, too, because of what it may not remove.
  await clearing.catch(() => undefined);
}
