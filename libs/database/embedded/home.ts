import { chmod, chown, lstat, mkdir, mkdtemp, realpath, rm, rmdir, stat, symlink } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { Logger } from 'pino';
import { makeFolder } from '#libs/files/make-folder.js';
import { EmbeddedPostgresError, explainFileFault } from './embedded-postgres-error.js';
import { chooseServerUser, firstClosedFolder, type ServerUser } from './server-user.js';

/** Where one cluster lives and who owns it. */
export interface Home {
  readonly path: string;
  readonly user: ServerUser;
  readonly cluster: string;
  readonly data: string;
  readonly passwordFile: string;
  readonly log: string;
  /** Holds the server's socket; nobody but its user and root may enter. */
  readonly socketDir: string;
  /** Where copies of the programs go when they can't be used where npm put them. */
  readonly copiesDir: string;
}

const SYSTEM_DIR = '/var/lib/service-faas';
const SOCKET_NAME = '.s.PGSQL.5432.lock';
/** The shortest limit on a socket's path among the systems we run on: macOS, 104 bytes with the final NUL. */
const SOCKET_PATH_BYTES = 103;

/** Makes the folder of the cluster, owned by the server's user, and finds a place for its socket. */
export async function prepareHome(dataDir: string, logger: Logger): Promise<Home> {
  const asked = resolve(dataDir);
  try {
    await makeFolder(dirname(asked), 0o755);
    const user = await ownerOf(asked);
    const path = await openFolder(asked, user, logger);
    await own(path, user);
    return {
      path,
      user,
      cluster: join(path, 'cluster'),
      data: join(path, 'cluster', 'data'),
      passwordFile: join(path, 'cluster', 'password'),
      log: join(path, 'server.log'),
      socketDir: await socketFolder(path, user),
      copiesDir: user === undefined ? join(path, 'programs') : SYSTEM_DIR,
    };
  } catch (error) {
    throw explainFileFault(error, asked);
  }
}

/** A cluster that exists keeps its owner, whoever was chosen for it then. */
async function ownerOf(asked: string): Promise<ServerUser> {
  const found = await stat(join(asked, 'cluster', 'data')).catch(() => undefined);
  const own = process.getuid?.();
  if (found === undefined || own === undefined) return chooseServerUser();
  if (own === 0 && found.uid !== 0) return { uid: found.uid, gid: found.gid };
  if (found.uid === own && own !== 0) return undefined;
  throw new EmbeddedPostgresError(
    'permission',
    `The database in ${asked} belongs to user ${found.uid}, the manager runs as user ${own}: start it as the same ` +
      'user as before, or change the owner of the whole folder.',
  );
}

/**
 * Root often works below folders that only root may enter (its home, a private temporary folder), where the server's
 * user could not reach its own data. The cluster then lives under /var/lib, with a link where it was asked for.
 */
async function openFolder(asked: string, user: ServerUser, logger: Logger): Promise<string> {
  const closed = await firstClosedFolder(dirname(asked), user);
  const linked = await lstat(asked).then(
    (found) => found.isSymbolicLink(),
    () => false,
  );
  if (closed === undefined || linked) {
    if (!linked) await makeFolder(asked, 0o700);
    return realpath(asked);
  }
  const remedy = `the database's user can't enter ${closed}: run chmod o+x ${closed}, or choose another FUNCTION_STORAGE_DIR`;
  await rmdir(asked).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOTEMPTY') throw new EmbeddedPostgresError('permission', `${asked} is in use, but ${remedy}.`);
  });
  try {
    await makeFolder(SYSTEM_DIR, 0o755);
  } catch (error) {
    throw new EmbeddedPostgresError('permission', `${remedy}.`, { cause: error });
  }
  const elsewhere = await mkdtemp(join(SYSTEM_DIR, 'database-'));
  await symlink(elsewhere, asked).catch(async (error: NodeJS.ErrnoException) => {
    // Another manager linked its folder first: both use that one.
    await rm(elsewhere, { recursive: true });
    if (error.code !== 'EEXIST') throw error;
  });
  const path = await realpath(asked);
  logger.warn({ asked, path, closed }, `the database is kept in ${path}, because its user can't enter ${closed}`);
  return path;
}

async function own(path: string, user: ServerUser): Promise<void> {
  const found = await stat(path);
  if (user !== undefined && found.uid !== user.uid) await chown(path, user.uid, user.gid);
  if ((found.mode & 0o077) !== 0) await chmod(path, 0o700);
}

/** Inside the home; where its path is too long for a socket, in the temporary folder under a name made from it. */
async function socketFolder(path: string, user: ServerUser): Promise<string> {
  if (Buffer.byteLength(join(path, SOCKET_NAME)) <= SOCKET_PATH_BYTES) return path;
  const name = `faas-postgres-${createHash('sha256').update(path).digest('hex').slice(0, 16)}`;
  const folder = join(await realpath(tmpdir()), name);
  await mkdir(folder, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  const found = await lstat(folder);
  const owners = [process.getuid?.(), user?.uid];
  // Anybody may create names in the temporary folder: one that isn't ours could listen in our server's place.
  if (!found.isDirectory() || !owners.includes(found.uid)) {
    throw new EmbeddedPostgresError('permission', `${folder} belongs to somebody else: remove it, then start again.`);
  }
  await own(folder, user);
  return folder;
}
