import { execFile } from 'node:child_process';

const REMOVE_MS = 10_000;

/**
 * Removes what a worker could write, as root: unlike Node's own `rm`, which goes by paths, the program goes from folder
 * to folder by descriptors, so that it is led nowhere else by who exchanges a folder for a link meanwhile. Rejects when
 * it isn't done in 10 s; then it can be called again and goes on.
 */
export function removeTrees(paths: readonly string[]): Promise<void> {
  if (paths.length === 0) return Promise.resolve();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  // One that the kernel holds up can't be killed.
  const late = setTimeout(() => reject(new Error(`rm did not end in ${REMOVE_MS} ms`)), REMOVE_MS + 1_000);
  execFile('rm', ['-rf', '--', ...paths], { timeout: REMOVE_MS, killSignal: 'SIGKILL' }, (error) => {
    clearTimeout(late);
    if (error === null) resolve();
    else reject(error);
  });
  return promise;
}
