import type { FunctionId } from '#libs/orchestrator/workload.js';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { Notifications } from '#libs/database/notifications.js';
import { Injectable } from '@nestjs/common';

const CHANGED = 'faas_changed';
const POLL_MS = 1_000;

/** Tells, on every manager that shares the database, that a function's row has changed. */
@Injectable()
export class FunctionChanges {
  private readonly subscribers = new Set<(id: FunctionId | undefined) => void>();
  private waits = 0;

  constructor(notifications: Notifications) {
    notifications.on(CHANGED, (id) => {
      for (const subscriber of this.subscribers) subscriber(id);
    });
  }

  /** Calls with the id that changed, or `undefined` when any may have. Returns the way to unsubscribe. */
  subscribe(subscriber: (id: FunctionId | undefined) => void): () => void {
    this.subscribers.add(subscriber);
    return () => this.subscribers.delete(subscriber);
  }

  /** Somebody of this manager waits for a function to change, as an upload does. */
  get areAwaited(): boolean {
    return this.waits > 0;
  }

  /**
   * Calls `look` now and after every change of the function until it answers something else than `undefined`.
   * Answers `undefined` when `deadlineMs` passed first. A slow poll covers a lost notification, and a database that
   * goes away meanwhile is waited for as well.
   */
  async until<T>(id: FunctionId, deadlineMs: number, look: () => Promise<T | undefined>): Promise<T | undefined> {
    const deadline = performance.now() + deadlineMs;
    let changed = Promise.withResolvers<void>();
    const unsubscribe = this.subscribe((which) => {
      if (which === undefined || which === id) changed.resolve();
    });
    this.waits += 1;
    try {
      for (;;) {
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
      this.waits -= 1;
      unsubscribe();
    }
  }
}

async function settledWithin(promise: Promise<void>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const elapsed = new Promise<void>((resolve) => (timer = setTimeout(resolve, ms)));
  await Promise.race([promise, elapsed]);
  clearTimeout(timer);
}
