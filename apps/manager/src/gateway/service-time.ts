/** How much the newest call counts: the mean is mostly of the last twenty. */
const WEIGHT = 0.1;
const LONGEST_SECONDS = 60;

/** How long one function's calls keep their slots, on average over the last ones. */
export class ServiceTime {
  private meanMs: number | undefined;

  note(ms: number): void {
    this.meanMs = this.meanMs === undefined ? ms : this.meanMs + (ms - this.meanMs) * WEIGHT;
  }

  /** In how many seconds so many calls that wait will have been served by so many slots; 1 to 60. */
  retryAfterSeconds(waiting: number, slots: number): number {
    const seconds = (waiting * (this.meanMs ?? 0)) / Math.max(1, slots) / 1_000;
    return Math.min(LONGEST_SECONDS, Math.max(1, Math.ceil(seconds)));
  }
}
