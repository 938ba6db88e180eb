import { spawn, type ChildProcess } from 'node:child_process';
import { constants, link, open, readFile, readlink, realpath, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Binaries } from './binaries.js';
import { explainSpawn, SERVER_ENVIRONMENT } from './cluster.js';
import type { Home } from './home.js';

/** Values of `postgresql.conf` settings that take precedence over ours. */
export type ServerSettings = Readonly<Record<string, string>>;

const LOG_LIMIT_BYTES = 4 * 1024 * 1024;

/** A server for one machine: little memory, few processes, nothing given up that keeps data safe. */
const SETTINGS: ServerSettings = {
  // Reached through its socket only: no port to be taken, and none that a function could try passwords on.
  listen_addresses: '',
  unix_socket_permissions: '0700',
  shared_buffers: '64MB',
  max_connections: '100',
  max_wal_size: '256MB',
  min_wal_size: '32MB',
  max_parallel_workers_per_gather: '0',
  io_method: 'sync',
  jit: 'off',
  password_encryption: 'scram-sha-256',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_line_prefix: '%m [%p] ',
  // Statements that fail are the caller's business; leaving them out keeps the log small without rotation.
  log_min_messages: 'log',
  log_checkpoints: 'off',
};

export interface StartedServer {
  readonly process: ChildProcess;
  /** Settles when the server has ended, with what it wrote until then. */
  readonly ended: Promise<string>;
}

/** Starts a server that outlives this process; PostgreSQL's own lock lets only one run on a data folder. */
export async function startServer(home: Home, binaries: Binaries, settings: ServerSettings): Promise<StartedServer> {
  await limitLog(home.log);
  // The folder belongs to the server's user, so root must not follow a link found there.
  const flags = constants.O_CREAT | constants.O_APPEND | constants.O_WRONLY | constants.O_NOFOLLOW;
  const log = await open(home.log, flags, 0o600);
  try {
    const began = (await log.stat()).size;
    const all = { ...SETTINGS, unix_socket_directories: quoteListItem(home.socketDir), ...settings };
    const options = Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const child = spawn(binaries.postgres, ['-D', home.data, '-p', '5432', ...options], {
      ...home.user,
      cwd: home.path,
      env: SERVER_ENVIRONMENT,
      stdio: ['ignore', log.fd, log.fd],
      detached: true,
    });
    const ended = new Promise<string>((resolve, reject) => {
      child.on('error', (error) => reject(explainSpawn(error, binaries.postgres)));
      child.on('exit', () => void readLogFrom(home.log, began).then(resolve, reject));
    });
    // Whoever started it may have stopped looking long before it ends.
    ended.catch(() => undefined);
    child.unref();
    return { process: child, ended };
  } finally {
    await log.close();
  }
}

/** The pid of the server that runs on this data folder, if there is one. */
export async function runningServer(home: Home): Promise<number | undefined> {
  const pid = Number.parseInt(await readFile(join(home.data, 'postmaster.pid'), 'utf8').catch(() => ''), 10);
  return pid > 0 && (await isServerOf(pid, home)) ? pid : undefined;
}

/**
 * PostgreSQL takes any living process with the pid in its lock file for a server, so a pid used again after a reboot
 * or in a new container would keep it from starting for ever. Removes lock files of processes that aren't this server.
 */
export async function removeStaleLocks(home: Home): Promise<void> {
  for (const path of [join(home.data, 'postmaster.pid'), join(home.socketDir, '.s.PGSQL.5432.lock')]) {
    const aside = `${path}.${process.pid}`;
    const pid = Number.parseInt(await readFile(path, 'utf8').catch(() => ''), 10);
    if (!(pid > 0) || (await isServerOf(pid, home))) continue;
    // Moved before it is judged for good: a server that started meanwhile gets its file back.
    await rename(path, aside).catch(() => undefined);
    const moved = Number.parseInt(await readFile(aside, 'utf8').catch(() => ''), 10);
    if (moved > 0 && moved !== pid) await link(aside, path).catch(() => undefined);
    await rm(aside, { force: true });
  }
}

/** A server's working directory is its data folder, which tells it from a process that got its pid later. */
async function isServerOf(pid: number, home: Home): Promise<boolean> {
  if (!isAlive(pid)) return false;
  if (process.platform !== 'linux') return true;
  try {
    return (await readlink(`/proc/${pid}/cwd`)) === (await realpath(home.data));
  } catch (error) {
    // ENOENT is a process that ended, or a zombie; anything else is one that we may not look at.
    return (error as NodeJS.ErrnoException).code !== 'ENOENT';
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function limitLog(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found !== undefined && found.size > LOG_LIMIT_BYTES) await rename(path, `${path}.1`);
}

async function readLogFrom(path: string, offset: number): Promise<string> {
  return (await readFile(path)).subarray(offset).toString('utf8');
}

function quoteListItem(value: string): string {
  return `"${value.replaceAll('"', '""')}"`;
}
