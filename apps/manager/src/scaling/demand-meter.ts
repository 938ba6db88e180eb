/** The time constant of the mean, in milliseconds: the last three of them make most of it. */
const NOW_MS = 1_500;
/** The window of the highest mean is kept in so many steps. */
const STEPS = 12;
/** Less than this counts as no demand. */
const NEGLIGIBLE = 0.01;

/** How many calls a function has at once: the running mean, and the highest mean of the last time. */
export class DemandMeter {
  private now = 0;
  private readAt: number;
  /** The highest mean of each step of the window in which there were readings, oldest first. */
  private peaks: { readonly step: number; calls: number }[] = [];

  /** @param windowMs how long the highest mean is remembered */
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

  /** The highest, not a mean over the window, which a short burst would hardly change. */
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
