import type { WorkloadFault } from '../workload.js';

/** How a replica in memory plays a handler file. */
export interface MemoryBehaviour {
  /** The file can't be loaded: its replicas end with this. */
  readonly notLoadable?: Pick<WorkloadFault, 'message' | 'detail' | 'line'>;
  /** Milliseconds from start to readiness; without it, the next turn of the event loop. */
  readonly loadMs?: number;
  /** The handler. What it prints goes to the replica's log; it should settle when `signal` aborts. */
  call(payload: string, call: MemoryCall): unknown;
}

interface MemoryCall {
  readonly print: (line: string) => void;
  readonly signal: AbortSignal;
  /** Shared by the calls of one replica, as a module's globals are. */
  readonly memory: Map<string, unknown>;
}

export const ECHO: MemoryBehaviour = { call: (payload) => payload };
