/** Work that is done again and again from its start to its end, and never twice at once. */
export class Repeating {
  private readonly stopping = new AbortController();
  private timer: NodeJS.Timeout | undefined;
  private underWay: Promise<void> | undefined;

  /** `work` ends soon once its signal aborts, and throws nothing. */
  constructor(
    private readonly everyMs: number,
    private readonly work: (signal: AbortSignal) => Promise<void>,
  ) {}

  /** The first time is now, or after one interval. */
  start(first: 'now' | 'later'): void {
    const begin = () => (this.underWay ??= this.work(this.stopping.signal).finally(() => (this.underWay = undefined)));
    this.timer = setInterval(() => void begin(), this.everyMs);
    if (first === 'now') void begin();
  }

  /** Resolves when nothing is under way. */
  async stop(): Promise<void> {
    clearInterval(this.timer);
    this.stopping.abort();
    await this.underWay;
  }
}
