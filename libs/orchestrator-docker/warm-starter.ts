import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { SecretsIgnored, specialisationOf } from '#libs/orchestrator/generic-worker.js';
import { probeHealth } from '#libs/orchestrator/health-probe.js';
import { NotGeneric, type WarmPool } from '#libs/orchestrator/warm-pool.js';
import type { CallToken } from '#libs/orchestrator/worker-tokens.js';
import type { EndpointAddress, FunctionId, Workload, WorkloadFault } from '#libs/orchestrator/workload.js';
import { settled } from '#libs/deadlines/within.js';
import type { Claims } from './claims.js';
import { resources, variablesOf, type WorkerLimits } from './container-config.js';
import type { DockerEngine } from './docker-engine.js';
import { EngineRefusal, isConflict } from './engine-fault.js';
import type { PoolContainer, PoolContainers } from './pool-containers.js';
import { leavingName, slotName } from './replica.js';
import type { ReplicaObserver } from './replica-observer.js';
import { faultOf } from './replica-starter.js';

/** A handler that loads more slowly is looked at again like any that starts. */
const LOAD_MS = 500;
const DROP_MS = 5_000;
const CALLS_FIRST_MS = 15;

/** A replica as its making has shown it. */
export interface WarmReplica {
  readonly id: string;
  readonly address: EndpointAddress;
  readonly hostPort: number;
  readonly call: CallToken;
  readonly slot: number;
  /** It has loaded its handler. */
  readonly isReady: boolean;
}

/** Where a function's new replica goes. */
export interface Place {
  readonly slot: number;
  /** The function has no other one that stays. */
  readonly isFirst: boolean;
}

/** Makes a function's replica of a generic worker that is ready. */
export class WarmStarter {
  constructor(
    private readonly engine: DockerEngine,
    private readonly pool: WarmPool<PoolContainer>,
    private readonly containers: PoolContainers,
    private readonly claims: Claims,
    private readonly observer: ReplicaObserver,
    private readonly limits: WorkerLimits,
    private readonly logger: Logger,
  ) {}

  /** There is one at this moment. */
  get hasReady(): boolean {
    return this.pool.hasReady;
  }

  /**
   * Undefined when there is none, or it wouldn't do: then the caller starts one cold.
   *
   * @param onReady told as soon as it answers, when its place has yet to be taken; and without it, when that failed
   */
  async start(
    workload: Workload,
    spec: string,
    { slot, isFirst }: Place,
    signal: AbortSignal,
    onReady: ((replica?: WarmReplica) => void) | undefined,
  ): Promise<WarmReplica | undefined> {
    const member = this.pool.take(isFirst ? undefined : workload.functionId);
    if (member === undefined) return undefined;
    try {
      return await this.become(member, workload, spec, { slot, warm: true }, signal, onReady);
    } catch (error) {
      signal.throwIfAborted();
      const { functionId } = workload;
      // Also when another manager has filled the slot: the cold start then finds that out.
      this.logger.info({ err: error, functionId, replica: member.id.slice(0, 12) }, 'warm start failed');
      return undefined;
    }
  }

  /**
   * The same with a worker that has to be started first: for what must not stand in a container's configuration.
   * Resolves with why it can't be, or `undefined` when it was started, or another manager starts it.
   */
  async startCold(
    workload: Workload,
    spec: string,
    slot: number,
    signal: AbortSignal,
  ): Promise<WorkloadFault | undefined> {
    try {
      const member = await this.pool.make(signal);
      await this.become(member, workload, spec, { slot, warm: false }, signal, undefined);
      return undefined;
    } catch (error) {
      signal.throwIfAborted();
      if (isConflict(error)) return undefined;
      // One that offers only the bare contract ends without a function, or answers like any other.
      if (error instanceof NotGeneric || error instanceof SecretsIgnored) return faultOf(new SecretsIgnored().message);
      if (error instanceof EngineRefusal) throw error;
      this.logger.info({ err: error, functionId: workload.functionId }, 'cold start failed');
      return {
        ...faultOf(`The worker did not take its function: ${(error as Error).message}`),
        code: 'worker_crashed',
      };
    }
  }

  private async become(
    member: PoolContainer,
    workload: Workload,
    spec: string,
    { slot, warm }: { readonly slot: number; readonly warm: boolean },
    signal: AbortSignal,
    onReady: ((replica?: WarmReplica) => void) | undefined,
  ): Promise<WarmReplica> {
    const { functionId, revision } = workload;
    const { id, address, hostPort, call } = member;
    let isReady = false;
    let isTold = false;
    try {
      await this.limit(member, workload, signal);
      const taking = () => this.takePlace(member, workload, spec, slot, signal);
      if (onReady === undefined) {
        // The engine writes to a disk while the worker loads its handler.
        [isReady] = await settled([this.giveFunction(member, workload, signal), taking()]);
      } else {
        isReady = await this.giveFunction(member, workload, signal);
        if (isReady) {
          isTold = true;
          onReady({ id, address, hostPort, call, slot, isReady });
          // The calls that it has now need the processor more than the engine does.
          await delay(CALLS_FIRST_MS);
        }
        await taking();
      }
      this.observer.started(functionId, id, isReady ? member : undefined);
    } catch (error) {
      onReady?.();
      if (isTold) await this.letGo(member, functionId);
      else await this.discard(member);
      throw error;
    }
    this.logger.info({ functionId, revision, replica: id.slice(0, 12), warm }, 'replica started');
    return { id, address, hostPort, call, slot, isReady };
  }

  /**
   * The engine is slow at it, so a call that waits for the worker comes first. When this manager is killed before the end,
   * so are the calls that it alone has led there: without its name the container is swept, without its function it is
   * discarded by the next step, and without its claim it serves as a replica of a former spec does, until another one has
   * replaced it.
   */
  private async takePlace(
    { id }: PoolContainer,
    workload: Workload,
    spec: string,
    slot: number,
    signal: AbortSignal,
  ): Promise<void> {
    await settled([
      this.engine.rename(id, slotName(workload.functionId, slot), signal),
      this.claims.make(id, workload, spec, signal),
    ]);
  }

  /** True when it has loaded it already. */
  private async giveFunction(member: PoolContainer, workload: Workload, signal: AbortSignal): Promise<boolean> {
    await this.pool.specialise(member, specialisationOf(workload, variablesOf(workload)), signal);
    return (await probeHealth(member.address, LOAD_MS, member.call.token)).good;
  }

  private async limit({ id }: PoolContainer, { limits }: Workload, signal: AbortSignal): Promise<void> {
    const wanted = resources(limits);
    if (JSON.stringify(wanted) !== JSON.stringify(resources(this.limits))) await this.engine.update(id, wanted, signal);
  }

  /** It may have calls already: under this name the next look finds it, and lets it go when it has answered them. */
  private async letGo({ id }: PoolContainer, functionId: FunctionId): Promise<void> {
    try {
      await this.engine.rename(id, leavingName({ id, functionId }), AbortSignal.timeout(DROP_MS));
    } catch (error) {
      this.logger.debug({ err: error, replica: id.slice(0, 12) }, 'replica without a place not named');
    }
  }

  private async discard(member: PoolContainer): Promise<void> {
    try {
      await this.containers.remove(member);
      await this.claims.drop(member.id, AbortSignal.timeout(DROP_MS));
    } catch (error) {
      // The next step finds it by its name, or a sweep by its lack of one.
      this.logger.debug({ err: error, replica: member.id.slice(0, 12) }, 'generic worker not removed');
    }
  }
}
