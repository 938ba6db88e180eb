import { availableParallelism } from 'node:os';
import type { FunctionId } from '#libs/orchestrator/workload.js';

/** A cold start is work for a processor from the container's making to the handler's loading. */
const FOR_EACH_PROCESSOR = 2;
/** One that takes longer waits for something else than a processor. */
const LONGEST_MS = 4_000;
/** Whose turn has come is asked to begin; who doesn't has been removed, or is somebody else's by now. */
const BEGINS_WITHIN_MS = 5_000;

interface Turn {
  readonly functionId: FunctionId;
  readonly timer: NodeJS.Timeout;
}

/**
 * Bounds how many replicas start cold at once: hundreds that share a machine all take as long as all together, and what
 * runs already gets nothing meanwhile. Those beyond are called in the order they came.
 */
export class ColdStarts {
  private readonly underWay = new Set<Turn>();
  private readonly promised = new Map<FunctionId, Turn>();
  /** Each with whether it has nothing on the engine. */
  private readonly waiting = new Map<FunctionId, boolean>();

  /** @param call tells that a function's turn has come */
  constructor(
    private readonly call: (functionId: FunctionId) => void,
    private readonly most = FOR_EACH_PROCESSOR * availableParallelism(),
  ) {}

  /** Functions wait for the processor. */
  get areWaiting(): boolean {
    return this.waiting.size + this.promised.size > 0;
  }

  isWaiting(functionId: FunctionId): boolean {
    return this.waiting.has(functionId) || this.promised.has(functionId);
  }

  /** It waits, its turn hasn't come, and when it began to wait it had nothing on the engine: there is nothing to look at. */
  hasNothingYet(functionId: FunctionId): boolean {
    return this.waiting.get(functionId) === true;
  }

  /** Whether one replica of the function may start now; if not, its turn comes. */
  begin(functionId: FunctionId, hasNothing: boolean): boolean {
    const isPromised = this.forgo(functionId);
    if (!isPromised && (this.free <= 0 || this.waiting.size > 0)) {
      this.waiting.set(functionId, hasNothing);
      return false;
    }
    const turn: Turn = { functionId, timer: setTimeout(() => this.close(turn), LONGEST_MS).unref() };
    this.underWay.add(turn);
    return true;
  }

  /** One of the function's replicas is ready, has ended, or was not started after all. */
  ended(functionId: FunctionId): void {
    for (const turn of this.underWay) if (turn.functionId === functionId) return this.close(turn);
  }

  /** It waits no more: it has what it wants, or is gone. */
  leave(functionId: FunctionId): void {
    this.waiting.delete(functionId);
    if (this.forgo(functionId)) this.callNext();
  }

  stop(): void {
    for (const { timer } of [...this.underWay, ...this.promised.values()]) clearTimeout(timer);
    this.underWay.clear();
    this.promised.clear();
    this.waiting.clear();
  }

  private get free(): number {
    return this.most - this.underWay.size - this.promised.size;
  }

  private close(turn: Turn): void {
    clearTimeout(turn.timer);
    if (this.underWay.delete(turn)) this.callNext();
  }

  private callNext(): void {
    for (const functionId of this.waiting.keys()) {
      if (this.free <= 0) return;
      this.waiting.delete(functionId);
      const timer = setTimeout(() => this.leave(functionId), BEGINS_WITHIN_MS).unref();
      this.promised.set(functionId, { functionId, timer });
      this.call(functionId);
    }
  }

  private forgo(functionId: FunctionId): boolean {
    clearTimeout(this.promised.get(functionId)?.timer);
    return this.promised.delete(functionId);
  }
}
