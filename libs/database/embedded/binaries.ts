import { createRequire } from 'node:module';
import { access, chmod, constants, cp, mkdir, mkdtemp, readFile, rename, rm, symlink } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { EmbeddedPostgresError } from './embedded-postgres-error.js';
import { firstClosedFolder, type ServerUser } from './server-user.js';

export interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
  /** The server's major version, as `PG_VERSION` in a data folder says it. */
  readonly major: string;
}

const require = createRequire(import.meta.url);

/**
 * The PostgreSQL that npm installed for this platform, ready to be run by `user`. A copy is made in `copiesDir` when
 * it can't be used where it is: below a folder closed to that user, or read-only and without its links.
 */
export async function locateBinaries(user: ServerUser, copiesDir: string): Promise<Binaries> {
  const { root, version } = await findPackage();
  const native = join(root, 'native');
  const usable = (await firstClosedFolder(native, user)) === undefined && (await prepare(native));
  const folder = usable ? native : await copyOf(native, join(copiesDir, `postgresql-${version}`));
  return {
    initdb: join(folder, 'bin', 'initdb'),
    postgres: join(folder, 'bin', 'postgres'),
    major: version.split('.')[0] ?? '',
  };
}

async function findPackage(): Promise<{ root: string; version: string }> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    // The platform's package is a dependency of embedded-postgres, which need not be hoisted to where we can see it.
    const entry = createRequire(require.resolve('embedded-postgres')).resolve(name);
    const root = dirname(dirname(entry));
    const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
    return { root, version: manifest.version };
  } catch (error) {
    throw new EmbeddedPostgresError(
      'platform',
      `The package ${name} isn't installed: run npm ci with optional dependencies, or, if it doesn't exist for this ` +
        'platform, set DATABASE_URL to a PostgreSQL server.',
      { cause: error },
    );
  }
}

/**
 * Does what the package's install script does, because npm may have been told to run none: libraries are found by
 * links that the package can't contain. Answers whether everything is in place.
 */
async function prepare(native: string): Promise<boolean> {
  const list = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  try {
    for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
      const link = join(dirname(native), target);
      if (
        await access(link).then(
          () => true,
          () => false,
        )
      )
        continue;
      await symlink(relative(dirname(link), join(dirname(native), source)), link).catch(ignoreExisting);
    }
    for (const program of ['initdb', 'postgres']) {
      const path = join(native, 'bin', program);
      await access(path, constants.X_OK).catch(() => chmod(path, 0o755));
    }
    return true;
  } catch {
    return false;
  }
}

async function copyOf(native: string, copy: string): Promise<string> {
  const complete = join(copy, basename(native));
  if (
    await access(join(complete, 'bin', 'postgres')).then(
      () => true,
      () => false,
    )
  )
    return complete;
  await mkdir(dirname(copy), { recursive: true, mode: 0o755 });
  const draft = await mkdtemp(`${copy}.`);
  try {
    await chmod(draft, 0o755);
    await cp(native, join(draft, basename(native)), {
      recursive: true,
      verbatimSymlinks: true,
      filter: (path) => !path.endsWith('.a'),
    });
    if (!(await prepare(join(draft, basename(native))))) {
      throw new EmbeddedPostgresError('permission', `PostgreSQL's programs could not be copied to ${copy}.`);
    }
    await rename(draft, copy).catch((error: NodeJS.ErrnoException) => {
      // Another manager finished the same copy first.
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
    return complete;
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

function ignoreExisting(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error;
}
