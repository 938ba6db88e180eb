import { relative, sep } from 'node:path';
import { processes } from '../../crash/support/processes.js';

export interface WorkerProcesses {
  readonly supervisor: number;
  readonly runners: readonly number[];
}

/** A function's workers under a runtime folder, as the kernel shows them: by the folder they work in. */
export function workersOf(runtimeDir: string, functionId: string): WorkerProcesses[] {
  const own = processes().filter(({ cwd }) => {
    const [, folder] = relative(runtimeDir, cwd ?? '/').split(sep);
    return folder === functionId;
  });
  const pids = new Set(own.map(({ pid }) => pid));
  return own
    .filter(({ parent }) => !pids.has(parent))
    .map(({ pid }) => ({ supervisor: pid, runners: own.filter(({ parent }) => parent === pid).map((one) => one.pid) }));
}
