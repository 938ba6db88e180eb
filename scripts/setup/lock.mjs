import { mkdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { progress, SetupError } from './progress.mjs';

const REFRESH_MS = 2_000;
const STALE_MS = 60_000;
const WAIT_MS = 20 * 60_000;

/** Lets one setup of this folder work at a time; the lock of one that was killed is taken over. */
export async function withLock(path, work) {
  mkdirSync(dirname(path), { recursive: true });
  const began = Date.now();
  while (!take(path)) {
    if (isStale(path)) {
      discard(path);
      continue;
    }
    if (Date.now() - began > WAIT_MS) throw new SetupError(`Another setup holds ${path} for too long: remove it.`);
    if (Date.now() - began < 500) progress('… waiting for another setup of this folder');
    await delay(500);
  }
  const refresh = setInterval(() => {
    const now = new Date();
    utimesSync(path, now, now);
  }, REFRESH_MS);
  const leave = () => rmSync(path, { force: true });
  process.once('exit', leave);
  try {
    return await work();
  } finally {
    clearInterval(refresh);
    process.off('exit', leave);
    leave();
  }
}

function take(path) {
  try {
    writeFileSync(path, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}

function isStale(path) {
  try {
    if (Date.now() - statSync(path).mtimeMs > STALE_MS) return true;
    process.kill(Number(readFileSync(path, 'utf8')), 0);
    return false;
  } catch (error) {
    return error.code === 'ESRCH';
  }
}

function discard(path) {
  const aside = `${path}.${process.pid}`;
  try {
    // Renaming succeeds for one only, so two who find it stale can't remove a third one's new lock.
    renameSync(path, aside);
    rmSync(aside, { force: true });
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
}
