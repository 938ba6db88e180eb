/** How quickly the two means follow, in milliseconds: most of a mean is of the last three of these. */
const NOW_MS = 1_500;
const LATELY_MS = 20_000;
/** Less than this is nothing. */
const NEGLIGIBLE = 0.01;

/** The running means of how many calls a function has at once. */
export class DemandMeter {
  private now = 0;
  private lately = 0;
  private readAt: number;

  constructor(at: number) {
    this.readAt = at;
  }

  /** Takes a reading at a moment, in `performance.now()` milliseconds. */
  read(calls: number, at: number): void {
    const passed = Math.max(0, at - this.readAt);
    this.readAt = at;
    this.now += (calls - this.now) * (1 - Math.exp(-passed / NOW_MS));
    this.lately += (calls - this.lately) * (1 - Math.exp(-passed / LATELY_MS));
  }

  get callsNow(): number {
    return this.now;
  }

  get callsLately(): number {
    return this.lately;
  }

  get isStill(): boolean {
    return this.now < NEGLIGIBLE && this.lately < NEGLIGIBLE;
  }
}
