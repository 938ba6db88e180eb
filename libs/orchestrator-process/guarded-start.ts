import { existsSync, lstatSync } from 'node:fs';
import { supervisorUid } from './isolation.js';

const SETPRIV = '/usr/bin/setpriv';
/** The loader takes these out of the environment of a process with two users; the worker gets them as arguments. */
const TAKEN_OUT = ['TMPDIR', 'LD_LIBRARY_PATH'] as const;

/** A command, and the user and group that Node is to run it as, if any. */
export interface Start {
  readonly command: string;
  readonly args: readonly string[];
  readonly identity: { readonly uid?: number; readonly gid?: number };
}

/** BusyBox has a command of this name that knows nothing of users. */
export function canGuard(): boolean {
  return supervisorUid() !== undefined && existsSync(SETPRIV) && !lstatSync(SETPRIV).isSymbolicLink();
}

/**
 * As `uid`, but with another real user: such a process may signal those that are all `uid`, and they may not signal
 * it. So a handler can't end the supervisor that would replace its process.
 */
export function guardedStart(command: string, args: readonly string[], uid: number): Start {
  const users = ['--ruid', String(supervisorUid()), '--euid', String(uid), '--regid', String(uid)];
  return { command: SETPRIV, args: [...users, '--clear-groups', '--', command, ...args], identity: {} };
}

export function plainStart(command: string, args: readonly string[], uid: number | undefined): Start {
  return { command, args, identity: uid === undefined ? {} : { uid, gid: uid } };
}

export function asArguments(env: Readonly<Record<string, string>>): string[] {
  return TAKEN_OUT.filter((name) => env[name] !== undefined).map((name) => `${name}=${env[name]}`);
}
