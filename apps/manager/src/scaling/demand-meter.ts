/** How quickly the mean follows, in milliseconds: most of it is of the last three of these. */
const NOW_MS = 1_500;
/** What it was at most is remembered in so many steps of the window. */
const STEPS = 12;
/** Less than this is nothing. */
const NEGLIGIBLE = 0.01;

/** How many calls a function has at once: the running mean, and the most it has been lately. */
export class DemandMeter {
  private now = 0;
  private readAt: number;
  /** The highest mean of each step of the window in which there were readings, oldest first. */
  private peaks: { readonly step: number; calls: number }[] = [];

  /** @param windowMs for how long the most is remembered */
  constructor(
    at: number,
    private readonly windowMs: number,
  ) {
    this.readAt = at;
  }

  /** Takes a reading at a moment, in `performance.now()` milliseconds. */
  read(calls: number, at: number): void {
    const passed = Math.max(0, at - this.readAt);
    this.readAt = at;
    this.now += (calls - this.now) * (1 - Math.exp(-passed / NOW_MS));
    this.remember(Math.floor((at * STEPS) / this.windowMs));
  }

  get callsNow(): number {
    return this.now;
  }

  /** Not a mean: one of a minute would forget a burst as soon as it is over, and tell of it when it comes again. */
  get callsLately(): number {
    return this.peaks.reduce((most, { calls }) => Math.max(most, calls), 0);
  }

  get isStill(): boolean {
    return this.callsLately < NEGLIGIBLE;
  }

  private remember(step: number): void {
    const last = this.peaks.at(-1);
    if (last?.step === step) {
      last.calls = Math.max(last.calls, this.now);
      return;
    }
    const oldest = step - STEPS;
    this.peaks = [...this.peaks.filter((peak) => peak.step >= oldest), { step, calls: this.now }];
  }
}
