import type { Stage } from './stage.js';

const LOG_LINES = 60;

/** What happened in a round, for whoever reads of its failure, and what went wrong in it. */
export class History {
  private lines: string[] = [];
  private began = performance.now();
  private faults: string[] = [];

  constructor(
    private readonly stage: Stage,
    private readonly seed: string,
  ) {}

  begin(title: string): void {
    this.began = performance.now();
    this.lines = [title];
    this.faults = [];
  }

  note(text: string): void {
    this.lines.push(`${(performance.now() - this.began).toFixed(0).padStart(6)} ms  ${text}`);
  }

  /** What can't be excused, whatever comes. */
  fault(text: string): void {
    this.note(`FAULT ${text}`);
    this.faults.push(text);
  }

  throwFaults(): void {
    if (this.faults.length > 0) throw new Error(this.faults.join('\n'));
  }

  /** An error with all there is to know about how it came. */
  report(error: unknown): Error {
    const parts = [
      (error as Error).message,
      `--- seed ${this.seed} (replay with CRASH_SEED=${this.seed}), engine ${this.stage.site.engine}`,
      ...this.lines,
      this.stage.logs(LOG_LINES),
    ];
    return new Error(parts.join('\n'), { cause: error });
  }
}
