import type { FunctionId } from '#libs/orchestrator/workload.js';
import type { FunctionRepository } from './function.repository.js';

/**
 * Reads uploaded files one after the other, since the database's driver needs several times a file's size for each, and
 * each once for all who ask for it meanwhile.
 */
export class CodeReader {
  private readonly reading = new Map<string, Promise<Buffer | null>>();
  private last: Promise<unknown> = Promise.resolve();

  constructor(private readonly repository: Pick<FunctionRepository, 'revision'>) {}

  /** Null when there is no such revision. */
  read(id: FunctionId, number: number): Promise<Buffer | null> {
    const key = `${id} ${number}`;
    const known = this.reading.get(key);
    if (known !== undefined) return known;
    const read = this.last
      .then(async () => (await this.repository.revision(id, number))?.code ?? null)
      .finally(() => this.reading.delete(key));
    this.last = read.catch(() => undefined);
    this.reading.set(key, read);
    return read;
  }
}
