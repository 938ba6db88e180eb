import type { Logger } from 'pino';

/** A wait was over before what was waited for. */
export class DeadlinePassed extends Error {
  /** As the reason of a signal that has run out is called. */
  override readonly name = 'TimeoutError';

  constructor(what: string, ms: number) {
    super(`${what} took longer than ${ms} ms`);
  }
}

export interface Bounds {
  /** Milliseconds; unset: only `signal` ends the wait. */
  readonly ms?: number;
  /** What the work has to put things in order once its time is over or `signal` has aborted, in milliseconds. */
  readonly graceMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * Settles as `work` does, and rejects with {@link DeadlinePassed} or the signal's reason when its time and its grace are
 * over, whether or not `work` minds the signal that it is given. What comes of it after that is lost.
 */
export function within<T>(
  what: string,
  { ms, graceMs = 0, signal }: Bounds,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const ending = new AbortController();
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  let late: NodeJS.Timeout | undefined;
  let over: NodeJS.Timeout | undefined;
  const end = (reason: unknown) => {
    clearTimeout(late);
    over = setTimeout(() => reject(reason as Error), graceMs);
    ending.abort(reason);
  };
  const abort = () => end(signal?.reason);
  if (ms !== undefined) late = setTimeout(() => end(new DeadlinePassed(what, ms)), ms);
  if (signal?.aborted === true) abort();
  else signal?.addEventListener('abort', abort, { once: true });
  // Called at once, so that it sees the signal from its beginning; what it throws is as good as what it rejects with.
  const working = (async () => work(ending.signal))();
  working.then(resolve, (error: unknown) => reject((ending.signal.aborted ? ending.signal.reason : error) as Error));
  return promise.finally(() => {
    clearTimeout(late);
    clearTimeout(over);
    signal?.removeEventListener('abort', abort);
  });
}

/** For what others wait behind, as at shutdown: gives it up after its time, and says so, instead of failing. */
export async function orGiveUp(
  what: string,
  ms: number,
  logger: Pick<Logger, 'warn'>,
  work: () => Promise<void> | void,
): Promise<void> {
  try {
    await within(what, { ms }, async () => work());
  } catch (error) {
    if (!(error instanceof DeadlinePassed)) throw error;
    logger.warn({ part: what, afterMs: ms }, 'given up at shutdown, as it comes to no end');
  }
}

/** Waits for all before it throws the first failure, so that nothing goes on behind the caller's back. */
export async function settled<T extends readonly unknown[] | []>(
  work: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  const results = await Promise.allSettled(work);
  const values = results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
  return values as { -readonly [K in keyof T]: Awaited<T[K]> };
}
