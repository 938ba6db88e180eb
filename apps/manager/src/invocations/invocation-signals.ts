import { Database } from '#libs/database/database.js';
import { Notifications } from '#libs/database/notifications.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { randomUUID } from 'node:crypto';

const CHANNEL = 'faas_invocations';
/** Others are told so often at most: each notification takes a commit. */
const EVERY_MS = 25;
/** What a notification may name; PostgreSQL takes 8,000 bytes. */
const MOST_NAMED = 200;

interface Message {
  readonly from: string;
  /** Undefined: too many to name. */
  readonly due?: readonly FunctionId[];
  readonly cancelled?: readonly string[];
}

/**
 * Tells the dispatchers of all managers that calls are due or shall end: this manager's at once, the others in one
 * notification for many. A lost one is harmless, since dispatchers look around by themselves.
 */
@Injectable()
export class InvocationSignals implements OnApplicationShutdown {
  private readonly manager = randomUUID();
  private readonly dueHere = new Set<FunctionId>();
  private readonly cancelledHere = new Set<string>();
  private dueListener: ((id: FunctionId | undefined, inMs: number) => void) | undefined;
  private callbackListener: (() => void) | undefined;
  private scheduleListener: (() => void) | undefined;
  private cancelListener: ((id: string) => void) | undefined;
  private timer: NodeJS.Timeout | undefined;
  private lastSent = -Infinity;

  constructor(
    private readonly database: Database,
    notifications: Notifications,
  ) {
    notifications.on(CHANNEL, (payload) => this.hear(payload));
  }

  onApplicationShutdown(): void {
    clearTimeout(this.timer);
  }

  /** The one listener; an undefined id: of any function. */
  onDue(listener: (id: FunctionId | undefined, inMs: number) => void): void {
    this.dueListener = listener;
  }

  onCancelled(listener: (id: string) => void): void {
    this.cancelListener = listener;
  }

  /** Told when a call of this manager has ended that somebody is to be told of. */
  onCallback(listener: () => void): void {
    this.callbackListener = listener;
  }

  callback(): void {
    this.callbackListener?.();
  }

  /** Told when a call of a schedule has ended at this manager. */
  onScheduledEnded(listener: () => void): void {
    this.scheduleListener = listener;
  }

  scheduledEnded(): void {
    this.scheduleListener?.();
  }

  due(id: FunctionId, inMs: number): void {
    this.dueListener?.(id, Math.max(0, inMs));
    // What is due later the others find by looking around.
    if (inMs <= 0) this.tell(this.dueHere, id);
  }

  cancelled(id: string): void {
    this.cancelListener?.(id);
    this.tell(this.cancelledHere, id);
  }

  private tell(set: Set<string>, id: string): void {
    set.add(id);
    const wait = this.lastSent + EVERY_MS - performance.now();
    this.timer ??= setTimeout(() => this.send(), Math.max(0, wait));
  }

  private send(): void {
    this.timer = undefined;
    this.lastSent = performance.now();
    const [due, cancelled] = [[...this.dueHere], [...this.cancelledHere]];
    this.dueHere.clear();
    this.cancelledHere.clear();
    const message: Message = {
      from: this.manager,
      ...(due.length <= MOST_NAMED && { due }),
      cancelled: cancelled.slice(0, MOST_NAMED / 4),
    };
    void this.database.query('SELECT pg_notify($1, $2)', [CHANNEL, JSON.stringify(message)]).catch(() => undefined);
  }

  private hear(payload: string | undefined): void {
    if (payload === undefined) {
      this.dueListener?.(undefined, 0);
      return;
    }
    const { from, due, cancelled = [] } = messageIn(payload);
    if (from === this.manager) return;
    if (due === undefined) this.dueListener?.(undefined, 0);
    for (const id of due ?? []) this.dueListener?.(id, 0);
    for (const id of cancelled) this.cancelListener?.(id);
  }
}

/** One that another release has sent in another form names nobody: it is looked around. */
function messageIn(payload: string): Partial<Message> {
  try {
    return JSON.parse(payload) as Partial<Message>;
  } catch {
    return {};
  }
}
