import { execFile } from 'node:child_process';
import { existsSync, lstatSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';

export interface UidRange {
  readonly first: number;
  readonly count: number;
}

/**
 * Ranges by preference. systemd's list of uids leaves the first to nobody; in a user namespace that doesn't reach so
 * far, one of the others may be mapped.
 */
const RANGES: readonly UidRange[] = [
  { first: 1_900_000_000, count: 1_000_000 },
  { first: 200_000, count: 100_000 },
  { first: 30_000, count: 30_000 },
];
export const LEAST_WORKER_UID = 30_000;
/** Users of a range that are no worker's: of builds that run code of packages, and the last two. */
const BUILDERS = 256;
const OTHERS = BUILDERS + 2;
const LOOK_MS = 10_000;
const SETPRIV = '/usr/bin/setpriv';
/** The loader takes these out of the environment of a process with two users; the worker gets them as arguments. */
const TAKEN_OUT = ['TMPDIR', 'LD_LIBRARY_PATH'] as const;

/** @param uidMap `/proc/self/uid_map`: lines of first uid inside, first outside, count */
export function uidRangeIn(uidMap: string): UidRange | undefined {
  const mapped = uidMap
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number) as [number, number, number]);
  const covers = ({ first, count }: UidRange) =>
    mapped.some(([inside, , length]) => inside <= first && first + count <= inside + length);
  return RANGES.find(covers);
}

/** Undefined when this process isn't root and can't switch users at all. */
export function workerUids(): UidRange | undefined {
  if (process.geteuid?.() !== 0 || process.platform !== 'linux') return undefined;
  const range = uidRangeIn(readFileSync('/proc/self/uid_map', 'utf8'));
  return range && { ...range, count: range.count - OTHERS };
}

/** The last of the range: the real user of every supervisor, and of nothing else. */
function supervisorUid(): number | undefined {
  const range = workerUids();
  return range && range.first + range.count + OTHERS - 1;
}

/** `shared`: of builds that run no code of packages; they have one cache. `own`: for one build each. */
export interface BuilderUsers {
  readonly shared: number;
  readonly own: UidRange;
}

export function builderUsers(): BuilderUsers | undefined {
  const range = workerUids();
  if (range === undefined) return undefined;
  const first = range.first + range.count;
  return { shared: first + BUILDERS, own: { first, count: BUILDERS } };
}

/**
 * The processes of this machine whose effective user this is; zombies count as ended. Another program looks: reading
 * what thousands of processes are would hold up this one.
 */
export async function processesOf(uid: number): Promise<number[]> {
  const look = 'grep -HsE "^(State|Uid):" /proc/[0-9]*/status';
  const looking = promisify(execFile)('/bin/sh', ['-c', look], { timeout: LOOK_MS, maxBuffer: 64 << 20 });
  const { stdout } = await looking.catch((error: { code: unknown; stdout: string }) => {
    // One has ended meanwhile.
    if (error.code === 2) return error;
    throw error;
  });
  const running = new RegExp(`^/proc/(\\d+)/status:State:\\t[^ZX].*\\n/proc/\\1/status:Uid:\\t\\d+\\t${uid}\\t`, 'gm');
  return [...stdout.matchAll(running)].map(([, pid]) => Number(pid));
}

/** BusyBox has a command of this name that knows nothing of users. */
export function canGuard(): boolean {
  return workerUids() !== undefined && existsSync(SETPRIV) && !lstatSync(SETPRIV).isSymbolicLink();
}

/**
 * How to start a command as `uid`. Guarded, its real user is another: such a process may signal those that are all `uid`,
 * and they may not signal it. So a handler can't end the supervisor that would replace its process.
 */
export function startAs(
  uid: number | undefined,
  { command, guardable }: { readonly command: string; readonly guardable: boolean },
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): { readonly command: string; readonly args: readonly string[]; readonly user: { uid?: number; gid?: number } } {
  if (uid === undefined) return { command, args, user: {} };
  if (!guardable) return { command, args, user: { uid, gid: uid } };
  const users = ['--ruid', String(supervisorUid()), '--euid', String(uid), '--regid', String(uid), '--clear-groups'];
  const kept = TAKEN_OUT.filter((name) => env[name] !== undefined).map((name) => `${name}=${env[name]}`);
  return { command: SETPRIV, args: [...users, '--', command, ...args, ...kept], user: {} };
}
