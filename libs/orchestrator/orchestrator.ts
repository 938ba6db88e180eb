import { Departures } from './departures.js';
import type { LayerEngine } from './layers.js';
import type { ReplicaLog } from './replica-log.js';
import type { Endpoint, EndpointAddress, FunctionId, Observed, Workload } from './workload.js';

export type OnReady = (endpoints: readonly Endpoint[]) => void;

/** What tells engines apart for the rest of the manager, which never asks which one it has. */
export interface Capabilities {
  /** It has an autoscaler and a scheduler: the number of replicas is a floor, and the memory they need is its concern. */
  readonly scalesItself: boolean;
  /** Handlers share neither files nor the network with the manager and with other users of its machine. */
  readonly isolates: boolean;
  /** The largest handler file that it can hand to a replica. */
  readonly largestCodeBytes: number;
  /** `mounted`: workers have a folder with all layers. `fetched`: each fetches its own from a manager. */
  readonly layers: 'mounted' | 'fetched' | 'none';
  /** Why no layers can be built, and what to do about it; unset: they can. */
  readonly buildsNoLayers?: string;
}

/**
 * The narrow port between the manager and an engine that runs workers. An abstract class, so that it is its own
 * injection token. Everything particular to an engine stays behind it.
 *
 * Every method may throw {@link OrchestratorUnavailable} when the engine can't do it now; nothing else is expected of
 * a sound engine. A fault of one workload is no exception: it is `Observed.reason`.
 */
export abstract class Orchestrator {
  /** `docker`, `kubernetes`, `process` or `memory`; for logs and health. */
  abstract readonly engine: string;

  abstract readonly capabilities: Capabilities;

  /**
   * What must be in place before the first worker, made at boot. Throws {@link EngineNotConfigured} when nothing may be
   * started without it.
   */
  async secure(): Promise<void> {}

  /**
   * One idempotent step that moves reality towards `workload`, then what it saw. Never waits for readiness: it probes
   * once and returns; `watch` tells when a replica became ready. Same spec: adopts what runs. Other spec: starts the
   * new replicas, and once they are ready drains the old. A replica that ended is replaced, and `reason` says why it
   * ended.
   *
   * @param onReady told of endpoints that answer already while the step goes on, where there were none before: calls
   * that wait may have them. Told of none when those must get no more calls. What the step resolves with counts.
   */
  abstract ensure(workload: Workload, signal: AbortSignal, onReady?: OnReady): Promise<Observed>;

  /**
   * Removes all that the function owns on the engine and resolves when nothing is left. Replicas with calls in flight
   * may finish them for `graceMs` at most. Already gone is success.
   */
  abstract remove(functionId: FunctionId, graceMs: number, signal: AbortSignal): Promise<void>;

  /** Every function of this owner that has something on the engine, running or not. */
  abstract list(signal: AbortSignal): Promise<FunctionId[]>;

  /**
   * Calls `onChange` when a workload may have changed (ready, ended, tampered with), and with `undefined` when any
   * may have, as after a lost connection. Only a hint: losing one is harmless. Reconnects by itself until `signal`
   * aborts; resolves then.
   */
  abstract watch(onChange: (functionId: FunctionId | undefined) => void, signal: AbortSignal): Promise<void>;

  /** What the replicas that the engine still has have printed; `function-log.ts` puts them together. */
  abstract logs(functionId: FunctionId, signal: AbortSignal): Promise<readonly ReplicaLog[]>;

  /** Told of each replica whose log is about to go with it, except where its function is removed. */
  readonly departures: Departures = new Departures();

  /** Resolves when the engine answers; throws {@link OrchestratorUnavailable} with the reason otherwise. */
  abstract ping(signal: AbortSignal): Promise<void>;

  /**
   * The address at which this manager reaches an endpoint. All managers share the rows, but a manager outside a cluster
   * reaches replicas through a proxy of its own.
   */
  reach(endpoint: Endpoint): EndpointAddress {
    return endpoint.address;
  }

  /** The workers that wait for a function, where the engine keeps some. */
  get warmPool(): PoolReport | undefined {
    return undefined;
  }

  /** Builds layers and hands them to workers; undefined where the engine has no way to. */
  get layers(): LayerEngine | undefined {
    return undefined;
  }

  /**
   * Whether the replica runs and has this address at this moment. Asked once a connection is open and before anything
   * is sent over it: a yes then means that it leads to this replica. Engines that
   * never reuse an address need no check.
   */
  confirms(_endpoint: Endpoint, _signal: AbortSignal): Promise<boolean> {
    return Promise.resolve(true);
  }

  /** Ends timers and connections at shutdown, and workers that have no function. The others go on running. */
  close(): void | Promise<void> {}
}

/** The state of a pool of generic workers, and how often it had a worker to give. */
export interface PoolCounts {
  /** Workers that can be taken. */
  readonly ready: number;
  /** How many there shall be, by configuration, demand and memory. */
  readonly target: number;
  /** How often a worker was asked for and there was one. */
  readonly hits: number;
  /** How often there was none. */
  readonly misses: number;
}

/** `take`: from asking for a worker until it can be told its function. `specialise`: until it has accepted it. */
export type WarmStage = 'take' | 'specialise';

/** Told how long each stage of a successful warm start took, in milliseconds. */
export type StageListener = (stage: WarmStage, ms: number) => void;

/** What may be asked of a pool, on any engine. */
export interface PoolReport {
  counts(): PoolCounts;
  onStage(listener: StageListener): void;
  /** Keeps none while nobody here makes replicas, and fills again after that. */
  rest(rests: boolean): void;
}
