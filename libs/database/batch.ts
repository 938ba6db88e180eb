import { DatabaseUnavailable } from '#libs/errors/errors.js';

interface Entry<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/** So that one statement stays short. */
const MOST_ITEMS = 256;

/**
 * Statements of one kind that are asked for at once become one. One is under way at a time, and what is asked for
 * meanwhile goes together next: a single request waits for nothing, and the more there are, the less each costs.
 */
export class Batch<Item, Result> {
  private waiting: Entry<Item, Result>[] = [];
  private isUnderWay = false;

  /** @param work answers with a result for each item, in their order */
  constructor(private readonly work: (items: readonly Item[]) => Promise<readonly Result[]>) {}

  add(item: Item): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ item, resolve, reject });
      if (!this.isUnderWay) void this.run();
    });
  }

  private async run(): Promise<void> {
    this.isUnderWay = true;
    while (this.waiting.length > 0) await this.settle(this.waiting.splice(0, MOST_ITEMS));
    this.isUnderWay = false;
  }

  /** Where the database refuses a statement, each item is tried alone: what is wrong with one is not the others' fault. */
  private async settle(entries: readonly Entry<Item, Result>[]): Promise<void> {
    try {
      const results = await this.work(entries.map(({ item }) => item));
      for (const [index, { resolve }] of entries.entries()) resolve(results[index] as Result);
    } catch (error) {
      const isOfAll = entries.length === 1 || error instanceof DatabaseUnavailable;
      if (isOfAll) for (const { reject } of entries) reject(error);
      else for (const entry of entries) await this.settle([entry]);
    }
  }
}
