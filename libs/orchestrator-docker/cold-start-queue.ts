import { availableParallelism } from 'node:os';
import type { FunctionId } from '#libs/orchestrator/workload.js';

/** A cold start is work for a processor from the container's making to the handler's loading. */
const FOR_EACH_PROCESSOR = 2;
/** A start that takes longer waits for something else than a processor: it gives its slot back. */
const LONGEST_MS = 4_000;
/** A function that was granted a slot and doesn't begin has been removed, or another manager starts it. */
const BEGINS_WITHIN_MS = 5_000;

interface Start {
  readonly functionId: FunctionId;
  readonly timer: NodeJS.Timeout;
}

/**
 * Bounds how many replicas start cold at once: hundreds that share a machine all take as long as all together, and what
 * runs already gets nothing meanwhile. Further functions are granted a slot in the order in which they asked.
 */
export class ColdStartQueue {
  private readonly running = new Set<Start>();
  private readonly granted = new Map<FunctionId, Start>();
  /** Functions that wait, each with whether it has nothing on the engine. */
  private readonly waiting = new Map<FunctionId, boolean>();

  /** @param onGranted told that a function may begin */
  constructor(
    private readonly onGranted: (functionId: FunctionId) => void,
    private readonly most = FOR_EACH_PROCESSOR * availableParallelism(),
  ) {}

  /** Functions wait for a slot. */
  get hasWaiting(): boolean {
    return this.waiting.size + this.granted.size > 0;
  }

  isWaiting(functionId: FunctionId): boolean {
    return this.waiting.has(functionId) || this.granted.has(functionId);
  }

  /** It waits without a slot, and had nothing on the engine when it began to wait: there is nothing to look at. */
  hasNothingYet(functionId: FunctionId): boolean {
    return this.waiting.get(functionId) === true;
  }

  /** Whether one replica of the function may start now; if not, the function is granted a slot later. */
  begin(functionId: FunctionId, hasNothing: boolean): boolean {
    const isGranted = this.withdraw(functionId);
    if (!isGranted && (this.free <= 0 || this.waiting.size > 0)) {
      this.waiting.set(functionId, hasNothing);
      return false;
    }
    const start: Start = { functionId, timer: setTimeout(() => this.finish(start), LONGEST_MS).unref() };
    this.running.add(start);
    return true;
  }

  /** One of the function's replicas is ready, has ended, or was not started after all. */
  ended(functionId: FunctionId): void {
    for (const start of this.running) if (start.functionId === functionId) return this.finish(start);
  }

  /** The function waits no longer: it has what it wants, or is gone. */
  leave(functionId: FunctionId): void {
    this.waiting.delete(functionId);
    if (this.withdraw(functionId)) this.grantNext();
  }

  stop(): void {
    for (const { timer } of [...this.running, ...this.granted.values()]) clearTimeout(timer);
    this.running.clear();
    this.granted.clear();
    this.waiting.clear();
  }

  private get free(): number {
    return this.most - this.running.size - this.granted.size;
  }

  private finish(start: Start): void {
    clearTimeout(start.timer);
    if (this.running.delete(start)) this.grantNext();
  }

  private grantNext(): void {
    for (const functionId of this.waiting.keys()) {
      if (this.free <= 0) return;
      this.waiting.delete(functionId);
      const timer = setTimeout(() => this.leave(functionId), BEGINS_WITHIN_MS).unref();
      this.granted.set(functionId, { functionId, timer });
      this.onGranted(functionId);
    }
  }

  private withdraw(functionId: FunctionId): boolean {
    clearTimeout(this.granted.get(functionId)?.timer);
    return this.granted.delete(functionId);
  }
}
