export type CrashEngine = 'process' | 'docker' | 'kubernetes' | 'small kubernetes';

/** One running worker, as the machine itself shows it. */
export interface WorkerView {
  /** Empty: it waits for one. */
  readonly functionId: string;
  /** Another one after each replacement. */
  readonly replica: string;
  /** The supervisor: the process to kill for the whole worker to die. 0 where it is not of this machine. */
  readonly pid: number;
  /** The processes that run handler code; undefined where they can't be seen. */
  readonly runners: readonly number[] | undefined;
}

/** Where the managers' workers live, looked at past the managers. */
export interface CrashSite {
  readonly engine: CrashEngine;
  /** What a manager needs to know of it: each asks for its own. */
  readonly env: Readonly<Record<string, string>>;
  /** Those that have a function. */
  workers(): Promise<WorkerView[]>;
  /** Only where managers keep workers without a function ready, and which there are. */
  readonly pool?: { readonly size: number; waiting(): Promise<WorkerView[]> };
  /** One sentence for each thing that should not be there when only these functions exist. */
  leaks(functionIds: ReadonlySet<string>): Promise<string[]>;
  /** Ends a worker that is no process of this machine. */
  kill?(worker: WorkerView): Promise<void>;
  /** Cuts every connection that tells managers of changes. */
  cutWatches?(): Promise<void>;
  /** Where packages of functions are built, which an index at this address can be reached from. */
  readonly builds?: Builds;
  /** Only where the engine is a process of its own. */
  readonly daemon?: EngineDaemon;
  close(): Promise<void>;
}

export interface Builds {
  readonly indexHost: string;
  /** Whatever builds at this moment. */
  kill(): Promise<void>;
}

export interface EngineDaemon {
  kill(): Promise<void>;
  /** With `keepWorkers` its workers live through the crash. */
  restart(keepWorkers: boolean): Promise<void>;
}
