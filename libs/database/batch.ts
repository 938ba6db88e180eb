import { DatabaseUnavailable } from '#libs/errors/errors.js';

interface Entry<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/** So that one statement stays short. */
const MOST_ITEMS = 256;

/** What the items of one statement may weigh together; one alone may weigh more. */
interface Weight<Item> {
  readonly of: (item: Item) => number;
  readonly most: number;
}
/** https://www.postgresql.org/docs/current/errcodes-appendix.html */
const QUERY_CANCELED = '57014';

/**
 * Statements of one kind that are asked for at once become one. One is under way at a time, and what is asked for
 * meanwhile goes together next: a single request waits for nothing, and the more there are, the less each costs.
 */
export class Batch<Item, Result> {
  private waiting: Entry<Item, Result>[] = [];
  private isUnderWay = false;

  /** @param work answers with a result for each item, in their order */
  constructor(
    private readonly work: (items: readonly Item[]) => Promise<readonly Result[]>,
    private readonly most = MOST_ITEMS,
    private readonly weight?: Weight<Item>,
  ) {}

  add(item: Item): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ item, resolve, reject });
      if (!this.isUnderWay) void this.run();
    });
  }

  private async run(): Promise<void> {
    this.isUnderWay = true;
    while (this.waiting.length > 0) await this.settle(this.waiting.splice(0, this.next()));
    this.isUnderWay = false;
  }

  /** How many go into the next statement. */
  private next(): number {
    const { most, weight, waiting } = this;
    if (weight === undefined) return most;
    let sum = 0;
    const beyond = waiting.slice(0, most).findIndex(({ item }) => (sum += weight.of(item)) > weight.most);
    return beyond < 0 ? most : Math.max(1, beyond);
  }

  /**
   * Where the database refuses a statement, each item is tried alone: what is wrong with one is not the others' fault.
   * What would fail alone as well is tried no further, for each try may take as long as a statement can.
   */
  private async settle(entries: readonly Entry<Item, Result>[]): Promise<void> {
    const fault = await this.attempt(entries);
    if (fault === undefined) return;
    let isOfAll = entries.length === 1 || isOfAny(fault.error);
    let { error } = fault;
    for (const entry of entries) {
      if (!isOfAll) {
        const own = await this.attempt([entry]);
        if (own === undefined) continue;
        ({ error } = own);
        isOfAll = isOfAny(error);
      }
      entry.reject(error);
    }
  }

  private async attempt(entries: readonly Entry<Item, Result>[]): Promise<{ error: unknown } | undefined> {
    try {
      const results = await this.work(entries.map(({ item }) => item));
      for (const [index, { resolve }] of entries.entries()) resolve(results[index] as Result);
      return undefined;
    } catch (error) {
      return { error };
    }
  }
}

/** A database that is away, or that is so slow that a statement was cancelled. */
function isOfAny(error: unknown): boolean {
  return error instanceof DatabaseUnavailable || (error as { code?: unknown } | null)?.code === QUERY_CANCELED;
}
