import { spawn } from 'node:child_process';
import { lstat, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** Where every user of this machine may leave files. */
export const SHARED_FOLDERS = ['/tmp', '/dev/shm', '/dev/mqueue'];

/** Tables of System V objects, what they call the id, and the option of `ipcrm` for it. */
const TABLES = [
  ['/proc/sysvipc/shm', 'shmid', '-m'],
  ['/proc/sysvipc/sem', 'semid', '-s'],
  ['/proc/sysvipc/msg', 'msqid', '-q'],
] as const;
const MOST_AT_ONCE = 1_000;
const IPCRM_MS = 5_000;

/** What a replica's user has left on this machine: a worker that was killed could not clear it away itself. */
export async function removeLeftovers(uid: number): Promise<void> {
  for (const folder of SHARED_FOLDERS) {
    for (const name of await readdir(folder).catch(() => [])) {
      const path = join(folder, name);
      const found = await lstat(path).catch(() => undefined);
      if (found?.uid === uid) await rm(path, { recursive: true, force: true }).catch(() => undefined);
    }
  }
  const objects: string[][] = [];
  for (const [path, id, option] of TABLES) {
    const table = await readFile(path, 'utf8').catch(() => '');
    objects.push(...idsIn(table, id, uid).map((found) => [option, found]));
  }
  for (let begin = 0; begin < objects.length; begin += MOST_AT_ONCE) {
    await ipcrm(objects.slice(begin, begin + MOST_AT_ONCE).flat());
  }
}

/** @param table columns under their names, as in `/proc/sysvipc` */
function idsIn(table: string, id: string, uid: number): string[] {
  const [names = [], ...rows] = table.split('\n').map((line) => line.trim().split(/\s+/));
  const [idAt, creatorAt, ownerAt] = [names.indexOf(id), names.indexOf('cuid'), names.indexOf('uid')];
  const isOf = (row: readonly string[]) => row[creatorAt] === String(uid) || row[ownerAt] === String(uid);
  return rows.filter(isOf).flatMap((row) => row[idAt] ?? []);
}

/** Best effort: it comes with `setpriv`, without which workers are not guarded either. */
function ipcrm(args: readonly string[]): Promise<void> {
  return new Promise((resolve) => {
    const child = spawn('ipcrm', args, { stdio: 'ignore', timeout: IPCRM_MS, killSignal: 'SIGKILL' });
    child.once('error', () => resolve());
    child.once('exit', () => resolve());
  });
}
