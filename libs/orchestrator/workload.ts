import type { Layer } from './layers.js';

/** 16 lower-case base32 characters; the key of everything a function owns on an engine. */
export type FunctionId = string;

/**
 * What a worker that is told to leave needs beyond the time limit of a call: for five seconds it takes calls of managers
 * that hear late, the rest is for its end.
 */
export const LEAVING_MS = 7_000;

/** What the reconciler wants to be true on the engine for one function. A value: same workload, same `specHash`. */
export interface Workload {
  readonly functionId: FunctionId;
  readonly revision: number;
  /** The callable's name inside the file. */
  readonly functionName: string;
  /** The handler file, byte for byte as uploaded. */
  readonly code: Buffer;
  /** Hex SHA-256 of `code`. */
  readonly codeSha256: string;
  /** Replicas wanted now; `0` keeps the function without any. */
  readonly replicas: number;
  /** Engines that scale by themselves may go up to this many; unset: to their own limit. No part of the spec. */
  readonly maxReplicas?: number;
  readonly limits: WorkloadLimits;
  /** Variables of the handler's environment, and what the worker is told of how to call it; unset: none. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Unset: none. */
  readonly secrets?: WorkloadSecrets;
  /**
   * There will be one call: the worker loads the code once, and says in its log when the call has printed all that it
   * will. Unset: there may be any number.
   */
  readonly isCalledOnce?: boolean;
  /** Packages that the code may import; unset: none. */
  readonly layer?: Layer;
  /**
   * The revision that has the calls until this one takes over; unset: this one. Replicas of any other get none, whatever
   * becomes of these. No part of the spec.
   */
  readonly formerRevision?: number;
  /** Time limit of calls on replicas of a former spec, in milliseconds; unset: the same. No part of the spec. */
  readonly formerTimeoutMs?: number;
  /**
   * Backoff: a replica that ended by itself is reported but not replaced before this moment. Unset: replaced at once.
   * No part of the spec.
   */
  readonly replaceEndedFrom?: Date;
  /** No replica is started any more, whatever becomes of those that there are. No part of the spec. */
  readonly startsNone?: boolean;
  /**
   * A replica of this revision has been ready: what keeps the next one from loading the code may pass, such as a
   * database that is away, and is tried again. No part of the spec.
   */
  readonly hasServed?: boolean;
  /**
   * The engine had nothing of the function when it was last looked at, and nobody has acted since: a replica may be
   * started before looking again. A guess, which the step corrects by what it sees. No part of the spec.
   */
  readonly isFresh?: boolean;
}

/** Values that are for the handler alone: an engine hands them to its worker, and shows them in nothing that it tells. */
export interface WorkloadSecrets {
  readonly variables: Readonly<Record<string, string>>;
  /** By the name of each file. */
  readonly files: Readonly<Record<string, string>>;
  /** Stands for all of it in the spec, and tells nothing of a value. */
  readonly digest: string;
}

export interface WorkloadLimits {
  /** Time limit of one call, in milliseconds. Also bounds how long a leaving replica may drain. */
  readonly timeoutMs: number;
  /** Calls that may run at once in one replica. */
  readonly concurrency: number;
  readonly memoryMiB: number;
  /** CPU share in thousandths of a core. */
  readonly cpuMillis: number;
  /** Processes and threads. */
  readonly pids: number;
}

/** Where one ready replica answers HTTP. */
export interface Endpoint {
  /** The replica's id on its engine; a replaced replica never has the id of the one before. */
  readonly replica: string;
  readonly address: EndpointAddress;
  /** The revision that it runs; unset: unknown, as of replicas of more than one behind one address. */
  readonly revision?: number | undefined;
  /**
   * `worker`: it refuses calls that name another function. Unset: it answers every caller, and engines reuse
   * addresses, so that the engine is asked whose it is when a connection is opened (`Orchestrator.confirms`).
   */
  readonly guard?: EndpointGuard;
  /** What the token is made of that the replica answers to ({@link WorkerTokens}); unset: it answers whoever calls. */
  readonly credential?: string;
}

export type EndpointGuard = 'worker';

export type EndpointAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/** What an engine showed of one function at one moment. */
export interface Observed {
  /** Replicas of the wanted spec that exist, ready or not. */
  readonly replicas: number;
  /** Replicas that passed a readiness probe. */
  readonly ready: number;
  /** The ready replicas that may get calls: the wanted spec's, or the former spec's until those are ready. */
  readonly endpoints: readonly Endpoint[];
  /** How many of the endpoints are of a former spec, on an engine that gives calls to both while it replaces one. */
  readonly former?: number;
  /** Docker container id, Deployment name or process name of the first replica; empty when there is none. */
  readonly primary: string;
  /** The host port of the first replica; 0 where there is none. */
  readonly hostPort: number;
  /** Why fewer than the wanted replicas are ready, or what last went wrong with one. */
  readonly reason?: WorkloadFault;
  /**
   * Replicas that drain. The function is looked at again until there are none; unset on an engine that ends them by
   * itself.
   */
  readonly leaving?: number;
  /** Something that no call waits for was left to another step, which is to be made soon. */
  readonly isUnfinished?: boolean;
}

/** Whether a replica of a former spec may have calls until those of the wanted one are ready; unknown: it may. */
export function mayServe(revision: number | undefined, wanted: Pick<Workload, 'revision' | 'formerRevision'>): boolean {
  return revision === undefined || revision === wanted.revision || revision === wanted.formerRevision;
}

export type WorkloadFaultCode =
  /** The file can't be loaded. Trying the same code again can't help, unless it has been loaded before. */
  | 'handler_not_loadable'
  /** A replica ended by itself. */
  | 'worker_crashed'
  /** A replica was ended because it reached its memory limit. */
  | 'out_of_memory'
  /** The worker's image is absent and can't be had. */
  | 'image_unavailable'
  /** The engine refused the workload (name taken, quota, admission). */
  | 'rejected'
  /** No machine of the engine has room for a replica. */
  | 'unschedulable'
  /** Nothing is wrong, replicas are on their way. */
  | 'starting';

/** What its replicas tell, as far as that is final for the workload. */
export function faultFor({ hasServed = false }: Pick<Workload, 'hasServed'>, fault: WorkloadFault): WorkloadFault {
  return hasServed && fault.terminal ? { ...fault, terminal: false } : fault;
}

export interface WorkloadFault {
  readonly code: WorkloadFaultCode;
  /** One sentence for the function's owner. */
  readonly message: string;
  /** What belongs to it: Python's traceback, the last log lines. */
  readonly detail?: string;
  /** Line of the handler file, where known. */
  readonly line?: number;
  /** What the worker tells of a file that can't be loaded. */
  readonly report?: LoadReport;
  /** The same generation can't succeed by trying again. */
  readonly terminal: boolean;
  /** When it happened, so that a fault seen twice is counted once. */
  readonly at: Date;
}

/** Each part is empty or missing where it is unknown. */
export interface LoadReport {
  readonly pythonType: string;
  readonly pythonMessage: string;
  /** The last lines that were printed there. */
  readonly stderr?: string;
  /** Names of callables in a file that lacks the wanted one. */
  readonly available?: readonly string[];
}
