import { EventEmitter, on } from 'node:events';
import { OrchestratorUnavailable } from '../errors.js';
import type { FunctionId, Workload, WorkloadFault } from '../workload.js';
import type { CallAnswer } from './call.js';
import { ECHO, type MemoryBehaviour, MemoryReplica } from './memory.replica.js';

export interface MemoryWorldOptions {
  /** How each workload's code behaves; without it every handler echoes. */
  readonly behaviourOf?: (workload: Workload) => MemoryBehaviour;
  /** Replicas listen on loopback, for tests that call them over HTTP. Without it use {@link MemoryWorld.call}. */
  readonly serve?: boolean;
}

type Operation = 'ensure' | 'remove' | 'list' | 'logs' | 'ping';

/** What one owner has of one function; stays, without replicas, until it is removed. */
export interface MemoryFunction {
  readonly replicas: Set<MemoryReplica>;
  /** Those that ended and whose logs nobody was told of. */
  readonly departed: Set<MemoryReplica>;
  /** What last went wrong, with which spec, and how many replicas of it ended and weren't replaced. */
  fault?: { readonly hash: string; readonly reason: WorkloadFault; readonly owed: number };
}

/**
 * The engine behind {@link MemoryOrchestrator}, and a test's controls of it. Orchestrators that share a world see the
 * same replicas, as managers of one installation do.
 */
export class MemoryWorld {
  /** Replicas ever started; a test that counts restarts reads this. */
  started = 0;
  private readonly functions = new Map<string, MemoryFunction>();
  private readonly events = new EventEmitter().setMaxListeners(0);
  private readonly failures = new Map<Operation, Error[]>();
  private readonly broken = new Map<string, NonNullable<MemoryBehaviour['notLoadable']>>();
  private reachable = true;

  constructor(private readonly options: MemoryWorldOptions = {}) {}

  /** Ends a replica as an outage would; the function's next `ensure` replaces it. */
  killReplica(replica: string, code: WorkloadFault['code'] = 'worker_crashed'): void {
    const found = this.replicas().find(({ id }) => id === replica);
    found?.end({ code, message: 'The worker was killed (signal 9).', terminal: false, at: new Date() });
  }

  /** Every operation fails with `OrchestratorUnavailable` until `comeBack()`; replicas go on running. */
  goDown(): void {
    this.reachable = false;
  }

  comeBack(): void {
    this.reachable = true;
    this.events.emit('change', undefined);
  }

  /** The next call of one operation fails, after those that fail already. */
  failNext(operation: Operation, error: Error = new OrchestratorUnavailable('memory', 'a test said so')): void {
    this.failures.set(operation, [...(this.failures.get(operation) ?? []), error]);
  }

  /** Replicas of this code, from now on, end because it can't be loaded. */
  failLoading(codeSha256: string, fault: Partial<NonNullable<MemoryBehaviour['notLoadable']>> = {}): void {
    this.broken.set(codeSha256, { message: 'SyntaxError: invalid syntax', detail: 'Traceback', line: 1, ...fault });
  }

  /** Calls a replica without HTTP; rejects when there is no such replica any more. */
  async call(replica: string, payload: string): Promise<CallAnswer> {
    const found = this.replicas().find(({ id }) => id === replica);
    if (found === undefined) throw new Error(`Replica ${replica} refuses the connection.`);
    return found.call(payload);
  }

  /** Every replica that hasn't ended, of every owner. */
  replicas(): MemoryReplica[] {
    return [...this.functions.values()].flatMap(({ replicas }) => [...replicas]);
  }

  /** @internal */
  check(operation: Operation, signal: AbortSignal): void {
    signal.throwIfAborted();
    if (!this.reachable) throw new OrchestratorUnavailable('memory', 'a test took it down');
    const failure = this.failures.get(operation)?.shift();
    if (failure !== undefined) throw failure;
  }

  /** @internal */
  find(owner: string, functionId: FunctionId): MemoryFunction | undefined {
    return this.functions.get(`${owner}/${functionId}`);
  }

  /** @internal */
  findOrCreate(owner: string, functionId: FunctionId): MemoryFunction {
    const known = this.find(owner, functionId);
    if (known !== undefined) return known;
    const created: MemoryFunction = { replicas: new Set(), departed: new Set() };
    this.functions.set(`${owner}/${functionId}`, created);
    return created;
  }

  /** @internal */
  delete(owner: string, functionId: FunctionId): void {
    this.functions.delete(`${owner}/${functionId}`);
  }

  /** @internal */
  functionsOf(owner: string): FunctionId[] {
    const prefix = `${owner}/`;
    return [...this.functions.keys()].filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length));
  }

  /** @internal */
  start(owner: string, workload: Workload, hash: string): void {
    const home = this.findOrCreate(owner, workload.functionId);
    this.started += 1;
    const id = `memory-${workload.functionId}-${this.started}`;
    const played = this.options.behaviourOf?.(workload) ?? ECHO;
    const notLoadable = this.broken.get(workload.codeSha256);
    const behaviour = notLoadable === undefined ? played : { ...played, notLoadable };
    const replica: MemoryReplica = new MemoryReplica(
      id,
      owner,
      workload.functionId,
      hash,
      workload,
      behaviour,
      {
        ready: () => this.emit(owner, workload.functionId),
        ended: (_, reason) => {
          home.replicas.delete(replica);
          home.departed.add(replica);
          const owed = home.fault?.hash === hash ? home.fault.owed + 1 : 1;
          if (reason !== undefined) home.fault = { hash, reason, owed };
          this.emit(owner, workload.functionId);
        },
      },
      20_000 + (this.started % 40_000),
    );
    home.replicas.add(replica);
    replica.start(this.options.serve ?? false);
  }

  /** @internal */
  async *changes(owner: string, signal: AbortSignal): AsyncGenerator<FunctionId | undefined> {
    try {
      for await (const [changedOwner, functionId] of on(this.events, 'change', { signal }) as AsyncIterable<
        [string | undefined, FunctionId | undefined]
      >) {
        if (changedOwner === undefined || changedOwner === owner) yield functionId;
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  private emit(owner: string, functionId: FunctionId): void {
    this.events.emit('change', owner, functionId);
  }
}
