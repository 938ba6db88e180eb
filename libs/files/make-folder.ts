import { access, constants, mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * Makes a folder and those above it; one that exists is fine. Node's own `recursive` tries for ever where a folder can't
 * be made below one that exists, as in /proc.
 */
export async function makeFolder(path: string, mode: number): Promise<void> {
  const fault = await attempt(path, mode);
  if (fault?.code !== 'ENOENT' || path === dirname(path)) return unless(fault);
  if (!(await exists(dirname(path)))) await makeFolder(dirname(path), mode);
  const again = await attempt(path, mode);
  // The same is said for a parent that is read-only; asking it gives the true reason.
  if (again?.code === 'ENOENT') await access(dirname(path), constants.W_OK);
  return unless(again);
}

async function attempt(path: string, mode: number): Promise<NodeJS.ErrnoException | undefined> {
  try {
    await mkdir(path, { mode });
    return undefined;
  } catch (error) {
    const fault = error as NodeJS.ErrnoException;
    if (fault.code !== 'EEXIST') return fault;
    const found = await stat(path).catch(() => undefined);
    return found?.isDirectory() === true ? undefined : fault;
  }
}

function unless(fault: Error | undefined): void {
  if (fault !== undefined) throw fault;
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
