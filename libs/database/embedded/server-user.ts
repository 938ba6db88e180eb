import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { EmbeddedPostgresError } from './embedded-postgres-error.js';

const run = promisify(execFile);

/** Who the server runs as; undefined is whoever runs the manager. */
export type ServerUser = { readonly uid: number; readonly gid: number } | undefined;

const OWN_USER = 'faas-postgres';

/** PostgreSQL refuses to run as root, so root picks a system user for it, and makes one where none fits. */
export async function chooseServerUser(): Promise<ServerUser> {
  if (process.getuid?.() !== 0) return undefined;
  const existing = (await lookUp('postgres')) ?? (await lookUp(OWN_USER));
  if (existing !== undefined) return existing;
  const created = await run('useradd', ['--system', '--no-create-home', '--user-group', OWN_USER]).then(
    () => true,
    () => false,
  );
  // Another manager may have created it at the same moment, so look in either case.
  const user = (await lookUp(OWN_USER)) ?? (await lookUp('nobody'));
  if (user !== undefined) return user;
  throw new EmbeddedPostgresError(
    'permission',
    `PostgreSQL refuses to run as root and there is no user for it${created ? '' : ' (useradd failed)'}: ` +
      'create a system user named postgres, start the manager as another user, or set DATABASE_URL.',
  );
}

async function lookUp(name: string): Promise<ServerUser> {
  try {
    const [uid, gid] = await Promise.all([run('id', ['-u', name]), run('id', ['-g', name])]);
    return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
  } catch {
    return undefined;
  }
}

/** The first folder on the way down to `path`, itself included, that `user` may not enter. */
export async function firstClosedFolder(path: string, user: ServerUser): Promise<string | undefined> {
  if (user === undefined) return undefined;
  const way = [path];
  for (let folder = path; folder !== dirname(folder); folder = dirname(folder)) way.unshift(dirname(folder));
  for (const folder of way) {
    const found = await stat(folder).catch(() => undefined);
    if (found === undefined) return undefined;
    const bit = found.uid === user.uid ? 0o100 : found.gid === user.gid ? 0o010 : 0o001;
    if (found.isDirectory() && (found.mode & bit) === 0) return folder;
  }
  return undefined;
}
