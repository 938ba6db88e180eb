import { Injectable } from '@nestjs/common';
import type { EventEmitter } from 'node:events';

const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 5_000;
/** From so many wrong keys on the delay is the longest. */
const MOST_COUNTED = Math.ceil(Math.log2(LONGEST_DELAY_MS / FIRST_DELAY_MS)) + 1;
/** One wrong key is forgotten in this time. */
const FORGETTING_MS = 30_000;
/** Answers that are delayed at the same time, for one client and for all. Each keeps a connection open. */
const HELD_PER_CLIENT = 4;
const HELD_IN_ALL = 256;
/** How many clients are remembered. The one that was seen the longest ago is forgotten first. */
const CLIENTS = 4_096;

interface Seen {
  wrong: number;
  at: number;
  held: number;
}

type Attempt =
  | { readonly isHeld: true; readonly over: Promise<void> }
  | { readonly isHeld: false; readonly retryAfterSeconds: number };

/** Delays the answers to wrong keys, the longer the more of them a client has sent. Right keys are never delayed. */
@Injectable()
export class Attempts {
  private readonly clients = new Map<string, Seen>();
  private readonly held = new Set<() => void>();
  private isReleased = false;

  /**
   * Counts a wrong key. Its answer is held for the client's delay, or until the connection of `response` has closed. If
   * too many are held already, it is to be refused at once.
   */
  delay(client: string, response: EventEmitter): Attempt {
    const seen = this.count(client);
    const ms = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** (seen.wrong - 1));
    if (this.isReleased || seen.held >= HELD_PER_CLIENT || this.held.size >= HELD_IN_ALL) {
      return { isHeld: false, retryAfterSeconds: Math.ceil(ms / 1_000) };
    }
    return { isHeld: true, over: this.hold(seen, ms, response) };
  }

  private async hold(seen: Seen, ms: number, response: EventEmitter): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ms);
    response.once('close', resolve);
    this.held.add(resolve);
    seen.held += 1;
    await promise;
    seen.held -= 1;
    this.held.delete(resolve);
    response.off('close', resolve);
    clearTimeout(timer);
  }

  /** Delays nothing any more: a manager that shuts down waits for its calls, not for these. */
  release(): void {
    this.isReleased = true;
    for (const answer of this.held) answer();
  }

  private count(client: string): Seen {
    const now = performance.now();
    const seen = this.clients.get(client) ?? { wrong: 0, at: now, held: 0 };
    const forgotten = Math.floor((now - seen.at) / FORGETTING_MS);
    seen.wrong = Math.min(MOST_COUNTED, Math.max(0, seen.wrong - forgotten) + 1);
    seen.at = now;
    // The order of a Map is that of insertion: the first is the one that was seen the longest ago.
    this.clients.delete(client);
    this.clients.set(client, seen);
    if (this.clients.size > CLIENTS) this.clients.delete(this.clients.keys().next().value as string);
    return seen;
  }
}
