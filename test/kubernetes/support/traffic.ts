import { vi } from 'vitest';
import type { Answer } from '../../support/http.js';

/** Calls that go on until they are told to stop, each caller one after the other. */
export class Traffic {
  readonly answers: Answer[] = [];
  readonly failures: string[] = [];
  private readonly callers: readonly Promise<void>[];
  private going = true;

  constructor(
    callers: number,
    private readonly call: (caller: number) => Promise<Answer>,
  ) {
    this.callers = Array.from({ length: callers }, (_, caller) => this.callOnAndOn(caller));
  }

  /** Resolves when so many more calls have been answered. */
  async more(count: number): Promise<void> {
    const wanted = this.answers.length + count;
    await vi.waitFor(
      () => {
        if (this.answers.length < wanted) throw new Error(`${this.answers.length} of ${wanted} calls were answered.`);
      },
      { timeout: 60_000, interval: 20 },
    );
  }

  /** Answers what went wrong, a line for each call. */
  async stop(): Promise<readonly string[]> {
    this.going = false;
    await Promise.all(this.callers);
    return this.failures;
  }

  private async callOnAndOn(caller: number): Promise<void> {
    while (this.going) {
      try {
        const answer = await this.call(caller);
        this.answers.push(answer);
        if (answer.status !== 200) this.failures.push(`${answer.status} ${answer.text}`);
      } catch (error) {
        this.failures.push((error as Error).message);
      }
    }
  }
}
