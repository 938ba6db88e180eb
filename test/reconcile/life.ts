import { Database } from '#libs/database/database.js';
import { MemoryOrchestrator } from '#libs/orchestrator/testing/memory.orchestrator.js';
import type { MemoryWorld } from '#libs/orchestrator/testing/memory.world.js';
import type { FunctionId, Observed, Workload } from '#libs/orchestrator/workload.js';
import type { DataSource } from 'typeorm';

/**
 * How long a manager lives, counted in the moments just before and just after each of its calls to the database and
 * the engine. Once it is over, none of its calls begins or returns any more.
 */
export class Life {
  private momentsLeft = Infinity;
  private over = false;
  readonly burial = Promise.withResolvers<never>();

  constructor() {
    this.burial.promise.catch(() => undefined);
  }

  endAfter(moments: number): void {
    this.momentsLeft = moments;
  }

  end(): void {
    this.over = true;
  }

  /** Lets what waits forever fail, so that its timers go. */
  bury(): void {
    this.burial.reject(new Error('This manager is dead.'));
  }

  async moment(): Promise<void> {
    this.momentsLeft -= 1;
    if (this.momentsLeft < 0) this.over = true;
    if (this.over) await this.burial.promise;
  }
}

export class MortalDatabase extends Database {
  constructor(
    source: DataSource,
    private readonly life: Life,
  ) {
    super(source);
  }

  override async run<T>(work: () => Promise<T>): Promise<T> {
    await this.life.moment();
    const result = await super.run(work);
    await this.life.moment();
    return result;
  }
}

export class MortalOrchestrator extends MemoryOrchestrator {
  /** When each step was made, in `performance.now()` milliseconds, and of which function. */
  readonly steps: { readonly at: number; readonly id: FunctionId }[] = [];
  /** Called inside every step, before the engine acts. */
  duringEnsure: (workload: Workload) => Promise<unknown> = () => Promise.resolve();

  constructor(
    world: MemoryWorld,
    owner: string,
    private readonly life: Life,
  ) {
    super(world, owner);
  }

  override async ensure(workload: Workload, signal: AbortSignal): Promise<Observed> {
    await this.life.moment();
    this.steps.push({ at: performance.now(), id: workload.functionId });
    await Promise.race([this.duringEnsure(workload), this.life.burial.promise]);
    const observed = await super.ensure(workload, signal);
    await this.life.moment();
    return observed;
  }

  override async remove(id: FunctionId, graceMs: number, signal: AbortSignal): Promise<void> {
    await this.life.moment();
    await super.remove(id, graceMs, signal);
    await this.life.moment();
  }

  override async list(signal: AbortSignal): Promise<FunctionId[]> {
    await this.life.moment();
    const present = await super.list(signal);
    await this.life.moment();
    return present;
  }
}
