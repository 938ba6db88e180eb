import { randomBytes } from 'node:crypto';
import { link, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isAlive, type ProcessIdentity, type ProcessTable } from './process-table.js';

const RETRY_MS = 15;
const ASIDE = '.stale';
/** Putting a stale lock aside takes no longer than this, whoever does it. */
const ASIDE_MS = 10_000;
/** Nor does writing a line. */
const WRITING_MS = 10_000;

/**
 * Lets one manager at a time change a function's replicas. The lock is a file that names its holder, so that one whose
 * holder was killed can be told from one in use. Were two to break the same stale lock in the same instant, both could
 * hold it; the next step then finds a replica too many and drains it.
 */
export class FunctionLock {
  constructor(
    private readonly table: ProcessTable,
    private readonly self: ProcessIdentity,
  ) {}

  async acquire(path: string, signal: AbortSignal): Promise<AsyncDisposable> {
    const nonce = nonceOf();
    const draft = `${path}.${nonce}`;
    const mine = JSON.stringify({ ...this.self, nonce });
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeFile(draft, mine, { mode: 0o600 });
    try {
      for (;;) {
        signal.throwIfAborted();
        // A link appears with its content, and fails when there is one: a lock is never seen half made.
        if (await succeeds(link(draft, path), 'EEXIST')) break;
        await this.breakStale(path);
        await delay(RETRY_MS, undefined, { signal });
      }
    } finally {
      await rm(draft, { force: true });
    }
    return {
      [Symbol.asyncDispose]: async () => {
        if ((await contentOf(path)) === mine) await rm(path, { force: true });
      },
    };
  }

  /** Removes what killed managers left: their locks, which nobody may want any more, and what lies beside those. */
  async tidy(folder: string): Promise<void> {
    for (const name of await readdir(folder).catch(() => [])) {
      const path = join(folder, name);
      if (!name.includes('.')) {
        await this.breakStale(path);
        continue;
      }
      const found = await stat(path).catch(() => undefined);
      const content = await contentOf(path);
      if (found === undefined || content === undefined) continue;
      if (content === '') {
        // Just being written, or its writer was killed right then.
        if (Date.now() - found.mtimeMs > WRITING_MS) await rm(path, { force: true });
        continue;
      }
      if (name.endsWith(ASIDE) && Date.now() - found.ctimeMs < ASIDE_MS) continue;
      if (!(await isAlive(this.table, JSON.parse(content) as ProcessIdentity))) await rm(path, { force: true });
    }
  }

  private async breakStale(path: string): Promise<void> {
    const content = await contentOf(path);
    if (content === undefined) return;
    // Empty only where the machine went down before it had written it.
    if (content !== '' && (await isAlive(this.table, JSON.parse(content) as ProcessIdentity))) return;
    const aside = `${path}.${nonceOf()}${ASIDE}`;
    if (!(await succeeds(rename(path, aside), 'ENOENT'))) return;
    // Somebody else may have broken it first and hold it by now: theirs goes back.
    if ((await contentOf(aside)) !== content) await succeeds(link(aside, path), 'EEXIST');
    await rm(aside, { force: true });
  }
}

function nonceOf(): string {
  return randomBytes(6).toString('hex');
}

async function contentOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

async function succeeds(action: Promise<void>, expected: string): Promise<boolean> {
  try {
    await action;
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === expected) return false;
    throw error;
  }
}
