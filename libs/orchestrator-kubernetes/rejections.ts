import type { FunctionId, Workload, WorkloadFault } from '#libs/orchestrator/workload.js';

const MOST_REMEMBERED = 10_000;

/** What the API server refused last, so that it isn't asked the same again before the next try is due. */
export class Rejections {
  private readonly last = new Map<FunctionId, { readonly spec: string; readonly fault: WorkloadFault }>();

  /** The refusal to tell once more instead of trying; undefined when there is none or the next try is due. */
  held({ functionId, replaceEndedFrom }: Workload, spec: string, now: Date): WorkloadFault | undefined {
    const last = this.last.get(functionId);
    if (last?.spec !== spec || replaceEndedFrom === undefined || replaceEndedFrom <= now) return undefined;
    return last.fault;
  }

  note(functionId: FunctionId, spec: string, fault: WorkloadFault): void {
    this.last.delete(functionId);
    this.last.set(functionId, { spec, fault });
    const oldest = this.last.keys().next();
    if (this.last.size > MOST_REMEMBERED && oldest.done !== true) this.last.delete(oldest.value);
  }

  forget(functionId: FunctionId): void {
    this.last.delete(functionId);
  }
}
