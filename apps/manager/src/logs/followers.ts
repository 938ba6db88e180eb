import type { FunctionId } from '#libs/orchestrator/workload.js';
import { TooManyFollowers } from './errors.js';

const MOST_OF_A_FUNCTION = 16;
const MOST_IN_ALL = 64;

/** Each follower keeps a connection to a client and one to the engine for each replica. */
export class Followers {
  private readonly byFunction = new Map<FunctionId, number>();
  private all = 0;

  get count(): number {
    return this.all;
  }

  /** One more, until it is disposed of. Throws {@link TooManyFollowers}. */
  add(functionId: FunctionId): Disposable {
    const others = this.byFunction.get(functionId) ?? 0;
    if (this.all >= MOST_IN_ALL) throw new TooManyFollowers(MOST_IN_ALL, 'logs on this manager');
    if (others >= MOST_OF_A_FUNCTION) throw new TooManyFollowers(MOST_OF_A_FUNCTION, "this function's log");
    this.byFunction.set(functionId, others + 1);
    this.all += 1;
    return { [Symbol.dispose]: () => this.remove(functionId) };
  }

  private remove(functionId: FunctionId): void {
    const left = (this.byFunction.get(functionId) ?? 0) - 1;
    if (left > 0) this.byFunction.set(functionId, left);
    else this.byFunction.delete(functionId);
    this.all -= 1;
  }
}
