import { DeadlinePassed, within } from '#libs/deadlines/within.js';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import type { FunctionRepository } from '../functions/function.repository.js';

/** Limit for one file; the database's limit for a statement is shorter. */
const READ_MS = 20_000;
/** Limit for a reader, including the files before its own. */
const WAIT_MS = 30_000;

interface Read {
  readonly code: Promise<Buffer | null>;
  readers: number;
}

/**
 * Reads uploaded files one after the other, because the database's driver takes several times the size of each. Readers
 * of the same file share one reading.
 */
export class CodeReader {
  private readonly reading = new Map<string, Read>();
  private last: Promise<unknown> = Promise.resolve();

  constructor(private readonly repository: Pick<FunctionRepository, 'revision'>) {}

  /**
   * Null: there is no such revision, or `leaving` has aborted. Throws {@link DatabaseUnavailable} after half a minute
   * at the latest.
   */
  async read(id: FunctionId, number: number, leaving: AbortSignal): Promise<Buffer | null> {
    const read = this.reading.get(`${id} ${number}`) ?? this.begin(id, number);
    read.readers += 1;
    try {
      return await within('Reading a file', { ms: WAIT_MS, signal: leaving }, () => read.code);
    } catch (error) {
      if (leaving.aborted) return null;
      throw error instanceof DeadlinePassed ? new DatabaseUnavailable(error) : error;
    } finally {
      read.readers -= 1;
    }
  }

  private begin(id: FunctionId, number: number): Read {
    const key = `${id} ${number}`;
    const forget = () => {
      if (this.reading.get(key) === read) this.reading.delete(key);
    };
    const code = this.last.then(async () => {
      if (read.readers === 0) {
        // Before anybody can join it.
        forget();
        return null;
      }
      const revision = () => this.repository.revision(id, number);
      return (await within('Reading a file', { ms: READ_MS }, revision).finally(forget))?.code ?? null;
    });
    const read: Read = { code, readers: 0 };
    this.reading.set(key, read);
    this.last = code.catch(() => undefined);
    return read;
  }
}
