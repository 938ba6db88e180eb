import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

/** What the kernel says of one process. Read here anew, so that the suite doesn't trust the code under test. */
export interface ProcessView {
  readonly pid: number;
  readonly parent: number;
  readonly group: number;
  readonly command: readonly string[];
  /** Where it is readable. */
  readonly cwd: string | undefined;
}

/** Every process of this machine but zombies, of which only a status is left. */
export function processes(): ProcessView[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => viewOf(Number(name)) ?? []);
}

export function isRunning(pid: number): boolean {
  return viewOf(pid) !== undefined;
}

export async function ended(pid: number): Promise<void> {
  while (isRunning(pid)) await delay(2);
}

/** False when it had ended by itself. */
export function killProcess(pid: number, signal: NodeJS.Signals = 'SIGKILL'): boolean {
  try {
    return process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    return false;
  }
}

function viewOf(pid: number): ProcessView | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const [state, parent, group] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (state === 'Z' || state === 'X') return undefined;
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').filter(Boolean);
    return { pid, parent: Number(parent), group: Number(group), command, cwd: cwdOf(pid) };
  } catch {
    return undefined;
  }
}

function cwdOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return undefined;
  }
}
