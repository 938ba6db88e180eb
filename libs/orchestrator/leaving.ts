/** What is removed while nobody waits for it. What can't be removed is left to a sweep. */
export class Leaving {
  private readonly removals = new Set<Promise<unknown>>();

  add(removal: Promise<unknown>): void {
    const ended = removal.catch(() => undefined).finally(() => this.removals.delete(ended));
    this.removals.add(ended);
  }

  async gone(): Promise<void> {
    await Promise.all(this.removals);
  }
}
