import { spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { familyOf, isAlive, type ProcessEntry, type ProcessIdentity, type ProcessTable } from './process-table.js';

const ROUNDS = 200;
const PAUSE_MS = 10;
const LEAST_WORKER_UID = 30_000;

/** Tells the worker to finish its calls and leave. A second time would cut them, so this happens once per replica. */
export async function terminate(table: ProcessTable, identity: ProcessIdentity): Promise<void> {
  if (await isAlive(table, identity)) signalTo(identity.pid, 'SIGTERM');
}

/**
 * Ends a replica at once with everything it has started. With a uid of its own that is whatever runs under it; without,
 * its process group and descendants: the worker collects orphans, so none is missing while it lives.
 */
export async function killAll(
  table: ProcessTable,
  identity: ProcessIdentity | undefined,
  uid: number | undefined,
): Promise<void> {
  for (let round = 0; round < ROUNDS; round += 1) {
    const left = await remaining(table, identity, uid);
    if (left.length === 0) return;
    if (uid === undefined) killFamily(left, identity);
    else {
      // The supervisor first, and by its pid: signals of its workers' user don't reach it.
      for (const { pid } of left) signalTo(pid, 'SIGKILL');
      await killUser(uid);
    }
    if (round > 0) await delay(PAUSE_MS);
  }
  throw new Error(`Processes of a worker outlived SIGKILL (pid ${identity?.pid}, uid ${uid}).`);
}

async function remaining(
  table: ProcessTable,
  identity: ProcessIdentity | undefined,
  uid: number | undefined,
): Promise<ProcessEntry[]> {
  const entries = await table.read();
  // It isn't yet that user when it has only just been started.
  const isLeader = ({ pid, startTime }: ProcessEntry) => pid === identity?.pid && startTime === identity.startTime;
  if (uid !== undefined) return entries.filter((entry) => entry.uid === uid || isLeader(entry));
  if (identity === undefined) return [];
  const leads = entries.some(({ pid, startTime }) => pid === identity.pid && startTime === identity.startTime);
  const family = leads ? familyOf(entries, identity.pid) : [];
  // No new process gets a pid that is still the id of a group, so members of the group are ours even without its leader.
  const taken = entries.some(({ pid }) => pid === identity.pid) && !leads;
  const group = taken ? [] : entries.filter((entry) => entry.group === identity.pid && !family.includes(entry));
  return [...family, ...group];
}

/** The worker is stopped first, and killed last: it would replace what it loses, and its orphans would get away. */
function killFamily(entries: readonly ProcessEntry[], identity: ProcessIdentity | undefined): void {
  if (identity !== undefined) signalTo(identity.pid, 'SIGSTOP');
  const others = entries.filter(({ pid }) => pid !== identity?.pid);
  for (const { pid } of others) signalTo(pid, 'SIGKILL');
  if (others.length === 0 && identity !== undefined) signalTo(identity.pid, 'SIGKILL');
}

/** In one system call as that user: nothing can fork its way out of it, as it could from pids killed one by one. */
function killUser(uid: number): Promise<void> {
  // As root it would end everything on the machine.
  if (!Number.isInteger(uid) || uid < LEAST_WORKER_UID) throw new Error(`${uid} is no worker's uid.`);
  return new Promise((resolve, reject) => {
    const child = spawn('/bin/sh', ['-c', 'kill -KILL -1'], { uid, gid: uid, stdio: 'ignore', env: {} });
    child.once('error', reject);
    child.once('exit', () => resolve());
  });
}

function signalTo(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
