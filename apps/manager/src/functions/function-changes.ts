import type { FunctionId } from '#libs/orchestrator/workload.js';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { Notifications } from '#libs/database/notifications.js';
import { Injectable } from '@nestjs/common';

const CHANGED = 'faas_changed';
const POLL_MS = 1_000;
const FOLLOWED_MS = 1_000;

/** May resolve when it has followed the change. */
type Subscriber = (id: FunctionId | undefined) => unknown;

/** Tells every manager of the database that a function's row has changed. */
@Injectable()
export class FunctionChanges {
  private readonly subscribers = new Set<Subscriber>();
  private readonly waits: FunctionId[] = [];

  constructor(notifications: Notifications) {
    notifications.on(CHANGED, (id) => this.tell(id));
  }

  /** Tells this manager at once what it wrote itself. Duplicate notifications are harmless. */
  tell(id: FunctionId | undefined): void {
    for (const subscriber of this.subscribers) subscriber(id);
  }

  /** Tells this manager, and resolves when all parts of it have followed, or a moment later if the database is away. */
  async followed(id: FunctionId): Promise<void> {
    const all = Promise.allSettled([...this.subscribers].map((subscriber) => subscriber(id)));
    await settledWithin(
      all.then(() => undefined),
      FOLLOWED_MS,
    );
  }

  /** Calls `subscriber` with the id that changed, or `undefined` when any may have. Returns how to unsubscribe. */
  subscribe(subscriber: Subscriber): () => void {
    this.subscribers.add(subscriber);
    return () => this.subscribers.delete(subscriber);
  }

  /** Functions whose change this manager waits for, as an upload does. */
  get awaited(): readonly FunctionId[] {
    return this.waits;
  }

  /**
   * Calls `look` now and after every change of the function until it returns something else than `undefined`. Resolves
   * with `undefined` after `deadlineMs` or when `signal` aborts. A slow poll makes up for a lost notification, and a
   * database that goes away meanwhile is waited for.
   */
  async until<T>(
    id: FunctionId,
    deadlineMs: number,
    look: () => Promise<T | undefined>,
    signal?: AbortSignal,
  ): Promise<T | undefined> {
    const deadline = performance.now() + deadlineMs;
    let changed = Promise.withResolvers<void>();
    const wake = () => changed.resolve();
    const unsubscribe = this.subscribe((which) => {
      if (which === undefined || which === id) wake();
    });
    signal?.addEventListener('abort', wake, { once: true });
    this.waits.push(id);
    try {
      for (;;) {
        if (signal?.aborted === true) return undefined;
        const found = await look().catch((error: unknown) => {
          if (!(error instanceof DatabaseUnavailable) || performance.now() >= deadline) throw error;
          return undefined;
        });
        if (found !== undefined) return found;
        const left = deadline - performance.now();
        if (left <= 0) return undefined;
        await settledWithin(changed.promise, Math.min(POLL_MS, left));
        changed = Promise.withResolvers<void>();
      }
    } finally {
      this.waits.splice(this.waits.indexOf(id), 1);
      unsubscribe();
      signal?.removeEventListener('abort', wake);
    }
  }
}

async function settledWithin(promise: Promise<void>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const elapsed = new Promise<void>((resolve) => (timer = setTimeout(resolve, ms)));
  await Promise.race([promise, elapsed]);
  clearTimeout(timer);
}
