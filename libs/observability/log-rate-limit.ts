const PERIOD_MS = 60_000;
/** Clients that a summary names, those with the most lines first. */
const NAMED = 5;

export interface LeftOut {
  readonly lines: number;
  /** The most active of those whose lines were left out. */
  readonly clients: readonly { readonly client: string; readonly lines: number }[];
}

/**
 * Bounds what clients that nobody knows can make a log grow by: a few lines a minute for each of them and for all
 * together. What is left out is summed up once a minute.
 */
export class LogRateLimit {
  private readonly lines = new Map<string, number>();
  private admitted = 0;
  private leftOut = 0;
  private ending: NodeJS.Timeout | undefined;

  constructor(
    private readonly most: { readonly perClient: number; readonly inAll: number },
    private readonly summarise: (leftOut: LeftOut) => void,
  ) {}

  /** Whether one more line about this client is to be written. */
  admits(client: string): boolean {
    this.ending ??= setTimeout(() => this.end(), PERIOD_MS).unref();
    const before = this.lines.get(client) ?? 0;
    // Without a line there is nobody new to remember, so their number is bounded too.
    const isAdmitted = before < this.most.perClient && this.admitted < this.most.inAll;
    if (isAdmitted) this.admitted += 1;
    else this.leftOut += 1;
    if (isAdmitted || before > 0) this.lines.set(client, before + 1);
    return isAdmitted;
  }

  /** Ends the period, with a summary where there is something to sum up. */
  end(): void {
    clearTimeout(this.ending);
    this.ending = undefined;
    const clients = [...this.lines]
      .map(([client, lines]) => ({ client, lines: lines - this.most.perClient }))
      .filter(({ lines }) => lines > 0)
      .toSorted((one, other) => other.lines - one.lines)
      .slice(0, NAMED);
    const lines = this.leftOut;
    this.lines.clear();
    this.admitted = 0;
    this.leftOut = 0;
    if (lines > 0) this.summarise({ lines, clients });
  }
}
