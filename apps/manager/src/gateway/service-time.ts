/** The weight of the newest call: the mean is mostly that of the last twenty. */
const WEIGHT = 0.1;
const LONGEST_SECONDS = 60;

/** How long the calls of one function keep their slots: the mean of the last ones. */
export class ServiceTime {
  private meanMs: number | undefined;

  note(ms: number): void {
    this.meanMs = this.meanMs === undefined ? ms : this.meanMs + (ms - this.meanMs) * WEIGHT;
  }

  /** How many calls one slot serves in so long, if they are like the last ones; undefined: there were none. */
  servedIn(ms: number): number | undefined {
    return this.meanMs === undefined ? undefined : ms / Math.max(this.meanMs, 0.01);
  }

  /** In how many seconds so many slots will have served so many calls that wait: 1 to 60. */
  retryAfterSeconds(waiting: number, slots: number): number {
    const seconds = (waiting * (this.meanMs ?? 0)) / Math.max(1, slots) / 1_000;
    return Math.min(LONGEST_SECONDS, Math.max(1, Math.ceil(seconds)));
  }
}
