import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
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
  readonly words: readonly string[];
}

/** What runs on this machine. Zombies count as ended: only their status is left. */
export interface ProcessTable {
  read(): Promise<ProcessEntry[]>;
  /** Undefined when it has ended. */
  find(pid: number): Promise<ProcessIdentity | undefined>;
}

export function isSame(entry: ProcessIdentity | undefined, identity: ProcessIdentity | undefined): boolean {
  return entry !== undefined && entry.pid === identity?.pid && entry.startTime === identity.startTime;
}

export async function isAlive(identity: ProcessIdentity | undefined): Promise<boolean> {
  return identity !== undefined && isSame(await processes.find(identity.pid), identity);
}

/** One that ended within this instant has no start time left, and matches no later process. */
export async function identityOf(pid: number): Promise<ProcessIdentity> {
  return { pid, startTime: (await processes.find(pid))?.startTime ?? 'ended' };
}

/** The process and all that descend from it. */
export function familyOf(entries: readonly ProcessEntry[], root: number): ProcessEntry[] {
  const family = entries.filter(({ pid }) => pid === root);
  // Grows while it is walked.
  for (const { pid } of family) family.push(...entries.filter((entry) => entry.parent === pid));
  return family;
}

/** The fields of `/proc/<pid>/stat` after the command, which may itself hold spaces and parentheses. */
export function parseStat(stat: string): { state: string; parent: number; group: number; startTime: string } {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state = 'X', parent, group] = fields;
  return { state, parent: Number(parent), group: Number(group), startTime: fields[19] ?? '' };
}

const procFilesystem: ProcessTable = {
  read: async () => {
    const entries: ProcessEntry[] = [];
    // One after the other: there may be more processes than this one may have open files.
    for (const pid of (await readdir('/proc')).map(Number).filter(Boolean)) {
      const [found, status, words] = [await statOf(pid), await fileOf(pid, 'status'), await fileOf(pid, 'cmdline')];
      // The effective uid. Not the owner of its folder there: that is root for a process that nobody may look into.
      const uid = Number(/^Uid:\t\d+\t(\d+)/m.exec(status)?.[1]);
      if (found !== undefined) entries.push({ ...found, uid, words: words.split('\0') });
    }
    return entries;
  },
  find: statOf,
};

async function statOf(pid: number): Promise<Omit<ProcessEntry, 'uid' | 'words'> | undefined> {
  const { state, ...entry } = parseStat(await fileOf(pid, 'stat'));
  return ['', 'Z', 'X'].includes(state) ? undefined : { pid, ...entry };
}

/** Empty when it has ended. */
function fileOf(pid: number, name: string): Promise<string> {
  return readFile(`/proc/${pid}/${name}`, 'latin1').catch(() => '');
}

const run = promisify(execFile);
const PS_LINE = /^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\S+)\s+(\S+ +\S+ +\d+ +[\d:]+ +\d+)\s+(.*)$/;

/** Where there is no `/proc`. */
const psCommand: ProcessTable = {
  read: () => psEntries(['-ax']),
  find: async (pid) => (await psEntries(['-p', String(pid)]))[0],
};

async function psEntries(which: string[]): Promise<ProcessEntry[]> {
  const columns = 'pid=,ppid=,pgid=,uid=,state=,lstart=,command=';
  const env = { PATH: process.env['PATH'], LC_ALL: 'C' };
  // `ps -p` of a process that has ended prints nothing and fails.
  const printed = run('ps', [...which, '-ww', '-o', columns], { env, maxBuffer: 64 << 20 });
  const { stdout } = await printed.catch(() => ({ stdout: '' }));
  return stdout.split('\n').flatMap((text) => {
    const match = PS_LINE.exec(text);
    if (match === null || match[5]?.startsWith('Z') === true) return [];
    const [pid, parent, group, uid] = match.slice(1, 5).map(Number) as [number, number, number, number];
    return [{ pid, parent, group, uid, startTime: match[6] ?? '', words: (match[7] ?? '').split(' ') }];
  });
}

export function processTable(platform: NodeJS.Platform): ProcessTable {
  return platform === 'linux' ? procFilesystem : psCommand;
}

export const processes = processTable(process.platform);
