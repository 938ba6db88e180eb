import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { newestLines } from '../function-log.js';
import type { Layer } from '../layers.js';
import type { Orchestrator } from '../orchestrator.js';
import type { LogLine } from '../replica-log.js';
import type { Endpoint, FunctionId, Observed, Workload } from '../workload.js';
import type { CallAnswer } from './call.js';
import type { ContractHandler } from './contract.handlers.js';

/** What a provider's spec gives the suite; made once for the whole suite. */
export interface ContractHarness {
  /** A new manager of `owner`. The same owner twice is a restarted or a second manager of one installation. */
  open(owner: string): Orchestrator | Promise<Orchestrator>;
  /** Ends one manager's timers and connections, leaving its replicas alone as a manager that exits does. */
  shut?(orchestrator: Orchestrator): Promise<void> | void;
  /** The engine itself restarts what ended, with a back-off of its own, and can't be asked to wait. */
  readonly restartsByItself?: boolean;
  /** Managers act on a function only while they hold its row's lease: the engine itself keeps no two of them apart. */
  readonly needsLease?: boolean;
  /** A layer that workloads of the suite have, for an engine whose workers fetch theirs from somewhere. */
  offer?(layer: Layer): void;
  /** `POST /` of one replica. Rejects when it can't be reached or the connection is cut. */
  call(endpoint: Endpoint, payload: string, signal: AbortSignal): Promise<CallAnswer>;
  /** Ends a replica without warning and without asking the provider. */
  kill(functionId: FunctionId, replica: string): Promise<void> | void;
  close(): Promise<void> | void;
}

export interface ContractOptions {
  /** How long any one condition may take to come true, in milliseconds. */
  readonly deadlineMs?: number;
  /** Why replicas can have no packages here; unset: they can. */
  readonly whyNoLayers?: string | undefined;
}

export interface Watching {
  /** Resolves with the next hint that may concern the function; those before the call don't count. */
  hint(functionId: FunctionId): Promise<void>;
  readonly ended: Promise<void>;
  stop(): Promise<void>;
}

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';

/** One test's managers, functions and waits; closing it leaves nothing on the engine. */
export class Stage {
  readonly owner = `contract-${randomBytes(5).toString('hex')}`;
  readonly deadlineMs: number;
  private readonly managers: { orchestrator: Orchestrator; owner: string }[] = [];
  private readonly watches: Watching[] = [];

  constructor(
    readonly harness: ContractHarness,
    options: ContractOptions,
  ) {
    this.deadlineMs = options.deadlineMs ?? 20_000;
  }

  async manager(owner = this.owner): Promise<Orchestrator> {
    const orchestrator = await this.harness.open(owner);
    this.managers.push({ orchestrator, owner });
    return orchestrator;
  }

  /** A manager's successor: the former one is shut, its replicas are not. */
  async restart(orchestrator: Orchestrator): Promise<Orchestrator> {
    const index = this.managers.findIndex((known) => known.orchestrator === orchestrator);
    const [former] = this.managers.splice(index, 1);
    await this.harness.shut?.(orchestrator);
    return this.manager(former?.owner);
  }

  workload(handler: ContractHandler, changes: Partial<Workload> = {}): Workload {
    const code = Buffer.from(handler.source);
    return {
      functionId: Array.from(randomBytes(16), (byte) => ALPHABET[byte % 32]).join(''),
      revision: 1,
      functionName: handler.functionName,
      code,
      codeSha256: createHash('sha256').update(code).digest('hex'),
      replicas: 1,
      limits: { timeoutMs: 30_000, concurrency: 8, memoryMiB: 256, cpuMillis: 500, pids: 64 },
      ...changes,
    };
  }

  /** The next revision of a workload, on its way to take the calls over. */
  revised(workload: Workload, handler: ContractHandler): Workload {
    const { code, codeSha256, functionName } = this.workload(handler);
    const { revision } = workload;
    return { ...workload, code, codeSha256, functionName, revision: revision + 1, formerRevision: revision };
  }

  signal(): AbortSignal {
    return AbortSignal.timeout(this.deadlineMs);
  }

  ensure(orchestrator: Orchestrator, workload: Workload): Promise<Observed> {
    return orchestrator.ensure(workload, this.signal());
  }

  remove(orchestrator: Orchestrator, functionId: FunctionId, graceMs = 0): Promise<void> {
    return orchestrator.remove(functionId, graceMs, this.signal());
  }

  /** The newest lines of the function's replicas, oldest first. */
  async logOf(orchestrator: Orchestrator, functionId: FunctionId, tail = 100, since?: string): Promise<LogLine[]> {
    const signal = this.signal();
    return Array.fromAsync(newestLines(await orchestrator.logs(functionId, signal), { tail, since, signal }));
  }

  list(orchestrator: Orchestrator): Promise<FunctionId[]> {
    return orchestrator.list(this.signal());
  }

  /** Ensures again and again, as the reconcile loop does, until what was seen is as wanted. */
  settle(orchestrator: Orchestrator, workload: Workload, done: (seen: Observed) => boolean): Promise<Observed> {
    const isDone = (seen: Observed) => seen.isUnfinished !== true && done(seen);
    return this.until('the workload is as wanted', () => this.ensure(orchestrator, workload), isDone);
  }

  settleReady(orchestrator: Orchestrator, workload: Workload): Promise<Observed> {
    return this.settle(
      orchestrator,
      workload,
      (seen) =>
        seen.replicas === workload.replicas &&
        seen.ready === workload.replicas &&
        seen.endpoints.length === workload.replicas,
    );
  }

  async until<T>(what: string, look: () => Promise<T>, done: (seen: T) => boolean): Promise<T> {
    const deadline = Date.now() + this.deadlineMs;
    for (let pause = 20; ; pause = Math.min(pause * 1.5, 250)) {
      const seen = await look();
      if (done(seen)) return seen;
      if (Date.now() > deadline) throw new Error(`Waited in vain until ${what}; last seen: ${JSON.stringify(seen)}`);
      await delay(pause);
    }
  }

  call(endpoint: Endpoint | undefined, payload: string, signal = this.signal()): Promise<CallAnswer> {
    if (endpoint === undefined) throw new Error('There is no endpoint to call.');
    return this.harness.call(endpoint, payload, signal);
  }

  /** Starts a call that sleeps and resolves once it is inside the handler; the call itself is in `answer`. */
  async startSleeping(endpoint: Endpoint | undefined, seconds: number): Promise<{ answer: Promise<CallAnswer> }> {
    const answer = this.call(endpoint, String(seconds));
    answer.catch(() => undefined);
    await this.until(
      'the call is inside the handler',
      () => this.call(endpoint, 'busy'),
      ({ body }) => (body as { result?: unknown }).result === 1,
    );
    return { answer };
  }

  /** Resolves once calls to the endpoint fail, because its replica is gone. */
  async untilGone(endpoint: Endpoint | undefined): Promise<void> {
    const reaches = () =>
      this.call(endpoint, 'busy').then(
        () => true,
        () => false,
      );
    await this.until('the replica is gone', reaches, (reached) => !reached);
  }

  watch(orchestrator: Orchestrator): Watching {
    const controller = new AbortController();
    let listeners: ((functionId: FunctionId | undefined) => void)[] = [];
    const ended = orchestrator.watch((changed) => {
      for (const listener of listeners) listener(changed);
    }, controller.signal);
    ended.catch(() => undefined);
    const watching: Watching = {
      ended,
      hint: (functionId) =>
        new Promise((resolve, reject) => {
          const timer = setTimeout(() => reject(new Error('Waited in vain for a hint.')), this.deadlineMs);
          listeners.push((changed) => {
            if (changed !== undefined && changed !== functionId) return;
            clearTimeout(timer);
            listeners = [];
            resolve();
          });
        }),
      stop: async () => {
        controller.abort();
        await ended;
      },
    };
    this.watches.push(watching);
    return watching;
  }

  async close(): Promise<void> {
    for (const watching of this.watches) await watching.stop();
    for (const { orchestrator } of this.managers) {
      for (const functionId of await this.list(orchestrator)) await this.remove(orchestrator, functionId);
    }
    for (const { orchestrator } of this.managers) await this.harness.shut?.(orchestrator);
  }
}
