import { within } from '#libs/deadlines/within.js';

/** What was given up by its caller keeps the others waiting no longer than this. */
const GIVEN_UP_MS = 10_000;

/** Work on one key runs one after the other, in the order asked; other keys don't wait. */
export class Turns {
  private readonly last = new Map<string, Promise<unknown>>();

  /** Rejects with the signal's reason when it aborts before the turn has come; `work` minds it by itself. */
  async run<T>(key: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const before = this.last.get(key) ?? Promise.resolve();
    const turn = (async () => {
      await before.catch(() => undefined);
      signal.throwIfAborted();
      return within('a turn', { graceMs: GIVEN_UP_MS, signal }, work);
    })();
    this.last.set(key, turn);
    void turn
      .catch(() => undefined)
      .then(() => {
        if (this.last.get(key) === turn) this.last.delete(key);
      });
    await orAborted(before, signal);
    return turn;
  }
}

async function orAborted(before: Promise<unknown>, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const abort = () => reject(signal.reason as Error);
  before.then(
    () => resolve(),
    () => resolve(),
  );
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  try {
    await promise;
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
