import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { access, chown, mkdir, mkdtemp, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Binaries } from './binaries.js';
import { EmbeddedPostgresError, explainFileFault, explainOutput } from './embedded-postgres-error.js';
import type { Home } from './home.js';

export const SUPERUSER = 'faas';

const DRAFT_PREFIX = 'cluster-';
const DRAFT_LIFETIME_MS = 10 * 60_000;

/** The environment of the server's programs: nothing of the manager's, which may hold secrets. */
export const SERVER_ENVIRONMENT = { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };

/**
 * Creates the cluster unless it exists. It is made beside its place and moved there complete, password included, so
 * that a crash leaves either none or all of it, and of two that start at once one wins and the other uses it.
 */
export async function ensureCluster(
  home: Home,
  binaries: Binaries,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  try {
    await removeOldDrafts(home);
    if (!(await exists(home.cluster))) {
      const began = performance.now();
      await createCluster(home, binaries, signal);
      logger.info({ path: home.path, elapsedMs: Math.round(performance.now() - began) }, 'database cluster created');
    }
    await checkVersion(home, binaries);
  } catch (error) {
    throw explainFileFault(error, home.path);
  }
}

export async function readPassword(home: Home): Promise<string> {
  try {
    return (await readFile(home.passwordFile, 'utf8')).trim();
  } catch (error) {
    throw new EmbeddedPostgresError(
      'wrong_password',
      `${home.passwordFile} can't be read; without it nobody can log in to the database: restore it.`,
      { cause: error },
    );
  }
}

async function createCluster(home: Home, binaries: Binaries, signal: AbortSignal): Promise<void> {
  const draft = await mkdtemp(join(home.path, DRAFT_PREFIX));
  try {
    const data = join(draft, 'data');
    const passwordFile = join(draft, 'password');
    await mkdir(data, { mode: 0o700 });
    const file = await open(passwordFile, 'wx', 0o600);
    await file.writeFile(`${randomBytes(32).toString('base64url')}\n`);
    await file.sync();
    await file.close();
    if (home.user !== undefined) {
      for (const path of [draft, data, passwordFile]) await chown(path, home.user.uid, home.user.gid);
    }
    await initdb(home, binaries, data, passwordFile, signal);
    await rename(draft, home.cluster).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
    const folder = await open(home.path);
    await folder.sync();
    await folder.close();
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

async function initdb(home: Home, binaries: Binaries, data: string, passwordFile: string, signal: AbortSignal) {
  const flags = ['--auth=scram-sha-256', '--encoding=UTF8', '--locale=C', '--locale-provider=builtin'];
  const args = [`--pgdata=${data}`, `--username=${SUPERUSER}`, `--pwfile=${passwordFile}`, ...flags];
  const child = spawn(binaries.initdb, [...args, '--builtin-locale=C.UTF-8', '--no-instructions'], {
    ...home.user,
    cwd: home.path,
    env: SERVER_ENVIRONMENT,
    stdio: ['ignore', 'pipe', 'pipe'],
    signal,
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += String(chunk)));
  await new Promise<void>((resolve, reject) => {
    child.on('error', (error) => reject(explainSpawn(error, binaries.initdb)));
    child.on('close', (code) => (code === 0 ? resolve() : reject(explainOutput('initdb', home.path, output))));
  });
}

/** A program that exists and can't be started: most often another C library (musl) than it was built for. */
export function explainSpawn(error: Error, program: string): Error {
  const { code } = error as NodeJS.ErrnoException;
  if (code !== 'ENOENT' && code !== 'ENOEXEC' && code !== 'EACCES') return error;
  return new EmbeddedPostgresError(
    'platform',
    `${program} can't be executed here (${code}): set DATABASE_URL to a PostgreSQL server instead.`,
    { cause: error },
  );
}

async function checkVersion(home: Home, binaries: Binaries): Promise<void> {
  const found = (await readFile(join(home.data, 'PG_VERSION'), 'utf8').catch(() => '')).trim();
  if (found === binaries.major) return;
  throw new EmbeddedPostgresError(
    'other_version',
    found === ''
      ? `${home.data} holds no PostgreSQL database: move the folder away, then start again.`
      : `The database in ${home.path} was made by PostgreSQL ${found}, installed is ${binaries.major}: dump it with ` +
          'the old version and load it into the new one, or choose another FUNCTION_STORAGE_DIR.',
  );
}

async function removeOldDrafts(home: Home): Promise<void> {
  for (const name of await readdir(home.path)) {
    if (!name.startsWith(DRAFT_PREFIX)) continue;
    const path = join(home.path, name);
    const found = await stat(path).catch(() => undefined);
    // A younger one may belong to a manager that starts at this moment.
    if (found !== undefined && Date.now() - found.mtimeMs > DRAFT_LIFETIME_MS) {
      await rm(path, { recursive: true, force: true });
    }
  }
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
