import { within } from '#libs/deadlines/within.js';

/** Work that its caller gave up keeps the others waiting no longer than this. */
const GIVEN_UP_MS = 10_000;

/** Runs work on one key one after the other, in the order asked; work on other keys doesn't wait. */
export class KeyedMutex {
  private readonly last = new Map<string, Promise<unknown>>();

  /** Rejects with the signal's reason when it aborts before the work may begin; `work` minds the signal by itself. */
  async run<T>(key: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const before = this.last.get(key) ?? Promise.resolve();
    const running = (async () => {
      await before.catch(() => undefined);
      signal.throwIfAborted();
      return within('work under a lock', { graceMs: GIVEN_UP_MS, signal }, work);
    })();
    this.last.set(key, running);
    const forget = () => this.last.get(key) === running && this.last.delete(key);
    void running.then(forget, forget);
    await within('waiting for a lock', { signal }, () => before.catch(() => undefined));
    return running;
  }
}
