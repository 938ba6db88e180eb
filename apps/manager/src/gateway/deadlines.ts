/** Something with a time limit. */
export interface Expiring {
  /** `performance.now()` milliseconds. */
  readonly expiresAt: number;
  expire(): void;
}

/**
 * One timer for many deadlines. Nearly every call ends long before its deadline, so a timer for each would be made only
 * to be cleared. This one is set again when it has fired.
 */
export class Deadlines {
  private readonly open = new Set<Expiring>();
  private timer: NodeJS.Timeout | undefined;
  private firesAt = Infinity;

  add(expiring: Expiring): void {
    this.open.add(expiring);
    if (expiring.expiresAt < this.firesAt) this.fireAt(expiring.expiresAt);
  }

  delete(expiring: Expiring): void {
    this.open.delete(expiring);
  }

  private fireAt(moment: number): void {
    clearTimeout(this.timer);
    this.firesAt = moment;
    this.timer = setTimeout(() => this.fire(), Math.max(1, Math.ceil(moment - performance.now())));
    // A deadline alone must not keep the process alive.
    this.timer.unref();
  }

  private fire(): void {
    this.firesAt = Infinity;
    const now = performance.now();
    let next = Infinity;
    for (const expiring of this.open) {
      if (expiring.expiresAt <= now) {
        this.open.delete(expiring);
        expiring.expire();
      } else next = Math.min(next, expiring.expiresAt);
    }
    if (next < this.firesAt) this.fireAt(next);
  }
}
