import type { Endpoint } from '#libs/orchestrator/workload.js';
import type { AppError } from '#libs/errors/app-error.js';
import type { Cancellation } from './cancellation.js';
import type { Connections } from './connections.js';

/** One replica as this manager sees it. */
export interface Replica {
  readonly endpoint: Endpoint;
  readonly connections: Connections;
  inFlight: number;
  /** It refused a call lately and gets none until this moment (`performance.now()` milliseconds). */
  setAsideUntil: number;
  /** It is no endpoint any more: it finishes its calls and gets no new ones. */
  leaving: boolean;
}

/** The right to run one call on one replica. Disposing gives it back. */
export class Slot implements Disposable {
  private held = true;

  constructor(
    readonly replica: Replica,
    private readonly giveBack: (replica: Replica, isBackground: boolean) => void,
    private readonly isBackground = false,
  ) {}

  [Symbol.dispose](): void {
    if (!this.held) return;
    this.held = false;
    this.giveBack(this.replica, this.isBackground);
  }
}

interface Waiter {
  readonly resolve: (slot: Slot) => void;
  readonly reject: (error: AppError) => void;
}

export interface AcquireOptions {
  readonly waitMs: number;
  readonly cancellation: Cancellation;
  /** Nobody waits for its answer: it comes after all others, and has some of the slots only. */
  readonly isBackground?: boolean;
  /** Makes the error for a full queue, a wait that took too long, and a cancelled call. */
  readonly refused: (why: 'queue_full' | 'waited_too_long' | 'cancelled', waiting: number) => AppError;
}

/** What a pool needs of the router. */
export interface Links {
  readonly connectionsTo: (endpoint: Endpoint) => Connections;
  /** The replica is no endpoint any more and has calls in flight: it drains, or it is gone. Called at every update. */
  readonly onDraining: (replica: Replica) => void;
}

const SET_ASIDE_MS = 250;
/** The part of the slots that background calls may have; one in any case. */
export const BACKGROUND_SHARE = 1 / 2;

/**
 * The slots of one function. Each replica runs at most `concurrency` calls at once; further calls wait in a bounded
 * queue, first come, first served. Background calls wait apart from them, for whoever sends those bounds them: they get
 * a slot when no other call waits, and leave some free. A pool belongs to one manager and needs no lock.
 */
export class SlotPool {
  private replicas: Replica[] = [];
  private readonly waiters = new Set<Waiter>();
  private readonly background = new Set<Waiter>();
  private backgroundInFlight = 0;
  private retry: NodeJS.Timeout | undefined;

  constructor(
    private concurrency: number,
    private readonly queueLimit: number,
    private readonly links: Links,
  ) {}

  get waiting(): number {
    return this.waiters.size + this.background.size;
  }

  get inFlight(): number {
    return this.replicas.reduce((sum, replica) => sum + replica.inFlight, 0);
  }

  /** Replicas that may get calls. */
  get size(): number {
    return this.replicas.reduce((count, replica) => count + (replica.leaving ? 0 : 1), 0);
  }

  get isEmpty(): boolean {
    for (const replica of this.replicas) if (!replica.leaving) return false;
    return true;
  }

  /** Whether a call that came now would be refused. */
  get isFull(): boolean {
    return this.queueIsFull && (this.waiters.size > 0 || this.pick() === undefined);
  }

  /** How many calls may run at once; without a replica, as many as the first one will run. */
  get slots(): number {
    return Math.max(1, this.size) * this.concurrency;
  }

  /** Replaces the endpoints. Replicas that stay keep their calls and sockets, the others finish their calls and go. */
  update(endpoints: readonly Endpoint[], concurrency: number): void {
    this.concurrency = concurrency;
    const wanted = new Map(endpoints.map((endpoint) => [keyOf(endpoint), endpoint]));
    for (const replica of this.replicas) {
      replica.leaving = !wanted.delete(keyOf(replica.endpoint));
      if (replica.leaving && replica.inFlight > 0) this.links.onDraining(replica);
    }
    for (const endpoint of wanted.values()) {
      const connections = this.links.connectionsTo(endpoint);
      this.replicas.push({ endpoint, connections, inFlight: 0, setAsideUntil: 0, leaving: false });
    }
    for (const replica of this.replicas) if (replica.leaving) this.forgetIfDone(replica);
    this.serveWaiters();
  }

  /** A slot at once if one is free, otherwise a promise of one. */
  acquire(options: AcquireOptions): Slot | Promise<Slot> {
    if (options.isBackground) {
      const slot = this.waiting === 0 ? this.backgroundSlot() : undefined;
      return slot ?? this.wait(options, this.background);
    }
    const free = this.waiters.size === 0 ? this.pick() : undefined;
    if (free) return this.slotOn(free);
    if (this.queueIsFull) {
      return Promise.reject(options.refused('queue_full', this.waiters.size));
    }
    return this.wait(options, this.waiters);
  }

  /** The replica refused a call: it gets none for a moment. */
  setAside(replica: Replica): void {
    replica.setAsideUntil = performance.now() + SET_ASIDE_MS;
    this.serveWhenBack();
  }

  /** Refuses all calls that wait. */
  rejectWaiters(error: AppError): void {
    for (const waiter of [...this.waiters, ...this.background]) waiter.reject(error);
  }

  close(error: AppError): void {
    clearTimeout(this.retry);
    this.rejectWaiters(error);
    for (const replica of this.replicas) {
      replica.leaving = true;
      replica.connections.close();
    }
  }

  private wait(options: AcquireOptions, queue: Set<Waiter>): Promise<Slot> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        queue.delete(waiter);
        clearTimeout(timer);
        options.cancellation.onCancel(undefined);
      };
      const waiter: Waiter = {
        resolve: (slot) => {
          leave();
          resolve(slot);
        },
        reject: (error) => {
          leave();
          reject(error);
        },
      };
      const onCancelled = () => waiter.reject(options.refused('cancelled', this.waiting));
      const timer = setTimeout(() => waiter.reject(options.refused('waited_too_long', this.waiting)), options.waitMs);
      queue.add(waiter);
      if (options.cancellation.isCancelled) onCancelled();
      else options.cancellation.onCancel(onCancelled);
    });
  }

  private get queueIsFull(): boolean {
    if (this.waiters.size < this.queueLimit) return false;
    // Without any replica at least one call must be allowed to wait for one.
    return this.waiters.size > 0 || !this.isEmpty;
  }

  private slotOn(replica: Replica): Slot {
    replica.inFlight += 1;
    return new Slot(replica, this.giveBack);
  }

  private backgroundSlot(): Slot | undefined {
    const most = Math.max(1, Math.floor(this.slots * BACKGROUND_SHARE));
    const replica = this.backgroundInFlight < most ? this.pick() : undefined;
    if (replica === undefined) return undefined;
    replica.inFlight += 1;
    this.backgroundInFlight += 1;
    return new Slot(replica, this.giveBack, true);
  }

  private readonly giveBack = (replica: Replica, isBackground: boolean): void => {
    replica.inFlight -= 1;
    if (isBackground) this.backgroundInFlight -= 1;
    this.forgetIfDone(replica);
    this.serveWaiters();
  };

  /** The least loaded replica with a free slot. */
  private pick(): Replica | undefined {
    let best: Replica | undefined;
    let now = 0;
    for (const replica of this.replicas) {
      if (replica.leaving || replica.inFlight >= this.concurrency) continue;
      if (replica.setAsideUntil > 0 && replica.setAsideUntil > (now ||= performance.now())) continue;
      if (!best || replica.inFlight < best.inFlight) best = replica;
    }
    return best;
  }

  private serveWaiters(): void {
    for (const waiter of this.waiters) {
      const replica = this.pick();
      if (!replica) return;
      waiter.resolve(this.slotOn(replica));
    }
    for (const waiter of this.background) {
      const slot = this.backgroundSlot();
      if (!slot) return;
      waiter.resolve(slot);
    }
  }

  /** Serves the queue when the next replica that was set aside may be tried again, and so on for the others. */
  private serveWhenBack(): void {
    const now = performance.now();
    const next = Math.min(...this.replicas.map((replica) => replica.setAsideUntil).filter((until) => until > now));
    if (this.retry !== undefined || next === Infinity) return;
    this.retry = setTimeout(
      () => {
        this.retry = undefined;
        this.serveWaiters();
        this.serveWhenBack();
      },
      Math.ceil(next - now) + 1,
    );
  }

  private forgetIfDone(replica: Replica): void {
    if (!replica.leaving || replica.inFlight > 0) return;
    replica.connections.close();
    this.replicas = this.replicas.filter((other) => other !== replica);
  }
}

function keyOf({ replica, address, guard, credential }: Endpoint): string {
  return `${replica} ${guard ?? ''} ${credential ?? ''} ${address.kind === 'tcp' ? `${address.host}:${address.port}` : address.path}`;
}
