import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';

/** One process for good: pids are used again, a pid with its start time is not. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTime: string;
}

export interface ProcessEntry extends ProcessIdentity {
  readonly parent: number;
  readonly group: number;
  readonly uid: number;
}

/** What runs on this machine. Zombies count as ended: only their status is left. */
export interface ProcessTable {
  read(): Promise<ProcessEntry[]>;
  /** Undefined when it has ended. */
  startTime(pid: number): Promise<string | undefined>;
  /** Processes that have `tag` as one word of their command line. */
  tagged(tag: string): Promise<ProcessEntry[]>;
}

export async function isAlive(table: ProcessTable, { pid, startTime }: ProcessIdentity): Promise<boolean> {
  return (await table.startTime(pid)) === startTime;
}

/** The process and all that descend from it. */
export function familyOf(entries: readonly ProcessEntry[], root: number): ProcessEntry[] {
  const family = entries.filter(({ pid }) => pid === root);
  for (let index = 0; index < family.length; index += 1) {
    const parent = family[index]?.pid;
    family.push(...entries.filter((entry) => entry.parent === parent));
  }
  return family;
}

/** The fields of `/proc/<pid>/stat` after the command, which may itself hold spaces and parentheses. */
export function parseStat(stat: string): { state: string; parent: number; group: number; startTime: string } {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return {
    state: fields[0] ?? 'X',
    parent: Number(fields[1]),
    group: Number(fields[2]),
    startTime: fields[19] ?? '',
  };
}

class ProcFilesystem implements ProcessTable {
  async read(): Promise<ProcessEntry[]> {
    const entries = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
    return entries.map((name) => entryOf(Number(name))).filter((entry) => entry !== undefined);
  }

  async startTime(pid: number): Promise<string | undefined> {
    return entryOf(pid)?.startTime;
  }

  async tagged(tag: string): Promise<ProcessEntry[]> {
    const entries = await this.read();
    return entries.filter(({ pid }) => commandLine(pid).split('\0').includes(tag));
  }
}

function entryOf(pid: number): ProcessEntry | undefined {
  try {
    const uid = effectiveUid(readFileSync(`/proc/${pid}/status`, 'latin1'));
    const { state, ...entry } = parseStat(readFileSync(`/proc/${pid}/stat`, 'latin1'));
    return state === 'Z' || state === 'X' ? undefined : { ...entry, pid, uid };
  } catch {
    return undefined;
  }
}

/** Not the owner of its folder there: that is root for a process that nobody may look into. */
function effectiveUid(status: string): number {
  return Number(/^Uid:\t\d+\t(\d+)/m.exec(status)?.[1]);
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  } catch {
    return '';
  }
}

const run = promisify(execFile);
const PS_LINE = /^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\S+)\s+(\S+ +\S+ +\d+ +[\d:]+ +\d+)\s+(.*)$/;

/** Where there is no `/proc`. */
class PsCommand implements ProcessTable {
  async read(): Promise<ProcessEntry[]> {
    return (await this.lines(['-ax'])).map(({ entry }) => entry);
  }

  async startTime(pid: number): Promise<string | undefined> {
    const [line] = await this.lines(['-p', String(pid)]);
    return line?.entry.startTime;
  }

  async tagged(tag: string): Promise<ProcessEntry[]> {
    const lines = await this.lines(['-ax']);
    return lines.filter(({ command }) => command.split(' ').includes(tag)).map(({ entry }) => entry);
  }

  private async lines(which: string[]): Promise<{ entry: ProcessEntry; command: string }[]> {
    const columns = 'pid=,ppid=,pgid=,uid=,state=,lstart=,command=';
    // `ps -p` of a process that has ended prints nothing and fails.
    const { stdout } = await run('ps', [...which, '-ww', '-o', columns], {
      env: { PATH: process.env['PATH'], LC_ALL: 'C' },
      maxBuffer: 64 << 20,
    }).catch(() => ({ stdout: '' }));
    return stdout.split('\n').flatMap((text) => {
      const match = PS_LINE.exec(text);
      if (match === null || match[5]?.startsWith('Z') === true) return [];
      const [pid, parent, group, uid] = match.slice(1, 5).map(Number) as [number, number, number, number];
      return [{ entry: { pid, parent, group, uid, startTime: match[6] ?? '' }, command: match[7] ?? '' }];
    });
  }
}

export function processTable(platform: NodeJS.Platform = process.platform): ProcessTable {
  return platform === 'linux' ? new ProcFilesystem() : new PsCommand();
}
