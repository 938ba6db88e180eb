import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ProcessTable } from './process-table.js';

const FORGOTTEN_MS = 5_000;

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

/** The last of the range: the real user of every supervisor, and of nothing else. */
export function supervisorUid(): number | undefined {
  const range = ownUidRange();
  return range && range.first + range.count - 1;
}

export function workersOf({ first, count }: UidRange): UidRange {
  return { first, count: count - 1 };
}

/** Undefined when this process isn't root and can't switch users at all. */
export function ownUidRange(): UidRange | undefined {
  if (process.geteuid?.() !== 0 || process.platform !== 'linux') return undefined;
  return uidRangeIn(readFileSync('/proc/self/uid_map', 'utf8'));
}

/**
 * Gives every replica a user of its own: functions can't read each other's files or signal each other, and all that a
 * replica ever started can be ended by its uid. A claim is a file that names the replica's folder, and is void once
 * that folder is gone.
 */
export class UidClaims {
  private readonly dir: string;

  constructor(
    runtimeDir: string,
    readonly range: UidRange,
    private readonly table: ProcessTable,
  ) {
    this.dir = join(runtimeDir, '.uids');
  }

  async claim(replicaDir: string): Promise<number> {
    await mkdir(this.dir, { recursive: true, mode: 0o700 });
    const inUse = new Set((await this.table.read()).map(({ uid }) => uid));
    const start = createHash('sha256').update(replicaDir).digest().readUInt32BE(0) % this.range.count;
    for (let step = 0; step < this.range.count; step += 1) {
      const uid = this.range.first + ((start + step) % this.range.count);
      if (!inUse.has(uid) && (await this.take(uid, replicaDir))) return uid;
    }
    throw new Error('Every uid for workers is taken.');
  }

  /** The replica's folder moves. Said before, so that a claim whose manager ends in between is never another's. */
  async move(uid: number, replicaDir: string): Promise<void> {
    await writeFile(join(this.dir, String(uid)), replicaDir, { mode: 0o600 });
  }

  /** Only once nothing runs as this uid any more. */
  async release(uid: number): Promise<void> {
    await rm(join(this.dir, String(uid)), { force: true });
  }

  /** Removes void claims: a manager was killed between removing a replica's folder and giving its uid back. */
  async tidy(): Promise<void> {
    for (const name of await readdir(this.dir).catch(() => [])) await this.removeVoid(join(this.dir, name));
  }

  private async take(uid: number, replicaDir: string): Promise<boolean> {
    const path = join(this.dir, String(uid));
    try {
      await writeFile(path, replicaDir, { flag: 'wx', mode: 0o600 });
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    await this.removeVoid(path);
    return false;
  }

  private async removeVoid(path: string): Promise<void> {
    const holder = await readFile(path, 'utf8').catch(() => '');
    const isVoid = holder === '' ? await isForgotten(path) : !existsSync(holder);
    if (isVoid) await rm(path, { force: true });
  }
}

/** Made but never filled: its manager was killed between the two, which take no time otherwise. */
async function isForgotten(path: string): Promise<boolean> {
  const made = await stat(path).catch(() => undefined);
  return made !== undefined && Date.now() - made.mtimeMs > FORGOTTEN_MS;
}
