import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

export interface Entry {
  readonly pid: number;
  readonly parent: number;
  readonly group: number;
}

/** A process, its descendants and its process group: what a container holds. */
export function familyOf(leader: number, entries: readonly Entry[] = processEntries()): number[] {
  const family = new Set(entries.filter(({ pid, group }) => pid === leader || group === leader).map(({ pid }) => pid));
  for (let size = -1; size !== family.size;) {
    size = family.size;
    for (const { pid, parent } of entries) if (family.has(parent)) family.add(pid);
  }
  return [...family];
}

/** Ends it all, the leader last: it would replace what it loses. */
export async function killFamily(leader: number): Promise<void> {
  signal(leader, 'SIGSTOP');
  for (let round = 0; round < 100; round += 1) {
    const others = familyOf(leader).filter((pid) => pid !== leader);
    if (others.length === 0) break;
    for (const pid of others) signal(pid, 'SIGKILL');
    await delay(5);
  }
  signal(leader, 'SIGKILL');
}

export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

export function processEntries(): Entry[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
        const [state, parent, group] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        return state === 'Z' || state === 'X'
          ? []
          : [{ pid: Number(name), parent: Number(parent), group: Number(group) }];
      } catch {
        return [];
      }
    });
}
