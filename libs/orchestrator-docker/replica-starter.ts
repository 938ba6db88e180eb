import type { Logger } from 'pino';
import type { FunctionId, Workload, WorkloadFault } from '#libs/orchestrator/workload.js';
import type { WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import { codeArchive } from './code-volume.js';
import { newCodeVolume } from './code-volume.js';
import { containerConfig, type Placement } from './container-config.js';
import type { DockerEngine } from './docker-engine.js';
import { EngineRefusal, isConflict, isImageMissing, isMissing } from './engine-fault.js';
import type { ImagePulls } from './image-pulls.js';
import { LABEL } from './labels.js';
import { CODE_DIR, type Replica, slotName } from './replica.js';
import type { ReplicaObserver } from './replica-observer.js';
import { NetworkUnusable, type WorkerNetwork } from './worker-network.js';
import type { WorkerSeccomp } from './worker-seccomp.js';

/** Brings one new replica up: create, hand the code over, start. */
export class ReplicaStarter {
  constructor(
    private readonly engine: DockerEngine,
    private readonly images: ImagePulls,
    private readonly network: WorkerNetwork,
    private readonly seccomp: WorkerSeccomp,
    private readonly observer: ReplicaObserver,
    private readonly placement: Placement,
    private readonly tokens: WorkerTokens,
    private readonly logger: Logger,
  ) {}

  /** Resolves with why it can't be, or `undefined` when it was started (or another manager starts it). */
  start(workload: Workload, spec: string, slot: number, signal: AbortSignal): Promise<WorkloadFault | undefined> {
    return this.attempted(workload.functionId, () => this.attempt(workload, spec, slot, signal));
  }

  /** What the engine has against an attempt to bring a replica up is a fault of the workload. */
  async attempted(
    functionId: FunctionId,
    attempt: () => Promise<WorkloadFault | undefined>,
  ): Promise<WorkloadFault | undefined> {
    try {
      return await attempt();
    } catch (error) {
      if (error instanceof NetworkUnusable) return rejected(error);
      if (isImageMissing(error)) return this.images.absent(this.placement.image, functionId);
      if (!(error instanceof EngineRefusal)) throw error;
      if (!/network/i.test(error.message)) return rejected(error);
    }
    // It was removed, or made twice, since it was last looked at.
    this.network.forget();
    try {
      await this.network.ready();
      return await attempt();
    } catch (error) {
      return rejected(error);
    }
  }

  private async attempt(
    workload: Workload,
    spec: string,
    slot: number,
    signal: AbortSignal,
  ): Promise<WorkloadFault | undefined> {
    const { functionId } = workload;
    const name = slotName(functionId, slot);
    const archive = await codeArchive(workload.code);
    const volume = newCodeVolume(this.placement.owner);
    const call = this.tokens.issue();
    const [reach, seccomp] = await Promise.all([this.network.ready(), this.seccomp.profile()]);
    const own = { spec, volume, call, reach, seccomp };
    let id: string;
    try {
      id = await this.engine.create(name, containerConfig(workload, this.placement, own), signal);
    } catch (error) {
      if (isConflict(error)) return this.nameTaken(name, signal);
      throw error;
    }
    try {
      await this.engine.putArchive(id, CODE_DIR, archive, signal);
      this.observer.started(functionId, id);
      await this.engine.start(id, signal);
    } catch (error) {
      if (await this.isTakenAway({ id, volume }, error, signal)) return undefined;
      throw error;
    }
    const { revision } = workload;
    this.logger.info({ functionId, revision, replica: id.slice(0, 12), name }, 'replica started');
    return undefined;
  }

  /** Gives the function's own name, which was free a moment ago, to a replica. */
  async promote(replica: Replica, signal: AbortSignal): Promise<void> {
    try {
      await this.engine.rename(replica.id, slotName(replica.functionId, 1), signal);
    } catch (error) {
      if (!(error instanceof EngineRefusal)) throw error;
      this.logger.debug({ err: error, replica: replica.id.slice(0, 12) }, 'replica keeps its name');
    }
  }

  /**
   * True when another manager took the new container for a leftover and replaced it. What was refused and never ran is
   * removed at once; when that fails too, the next step finds it by its state.
   */
  private async isTakenAway(
    made: Pick<Replica, 'id' | 'volume'>,
    error: unknown,
    signal: AbortSignal,
  ): Promise<boolean> {
    if (!(error instanceof EngineRefusal)) return false;
    if (isMissing(error) && /no such container/i.test(error.message)) return true;
    await this.engine.remove(made, true, signal);
    return false;
  }

  private async nameTaken(name: string, signal: AbortSignal): Promise<WorkloadFault | undefined> {
    try {
      const holder = await this.engine.inspect(name, signal);
      if (holder.Config.Labels[LABEL.owner] === this.placement.owner) return undefined;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
    return faultOf(`A container that is not ours holds the name ${name}. Remove or rename it.`);
  }
}

function rejected(error: unknown): WorkloadFault {
  if (error instanceof NetworkUnusable) return faultOf(error.message);
  if (!(error instanceof EngineRefusal)) throw error;
  return faultOf(`The engine refused the worker: ${error.message}`);
}

export function faultOf(message: string): WorkloadFault {
  return { code: 'rejected', message, terminal: false, at: new Date() };
}
