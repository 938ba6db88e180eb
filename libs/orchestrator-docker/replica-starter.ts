import type { Logger } from 'pino';
import type { DockerConfig } from '#libs/config/config.js';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import type { Workload, WorkloadFault } from '#libs/orchestrator/workload.js';
import { codeArchive } from './code-archive.js';
import { CODE_DIR, containerConfig } from './container-config.js';
import type { DockerEngine } from './docker-engine.js';
import { EngineRefusal, isConflict, isMissing } from './engine-fault.js';
import type { ImagePulls } from './image-pulls.js';
import { LABEL } from './labels.js';
import { type Replica, slotName } from './replica.js';
import type { Sightings } from './sightings.js';
import type { WorkerNetwork } from './worker-network.js';

/** Brings one new replica up: create, hand the code over, start. */
export class ReplicaStarter {
  constructor(
    private readonly engine: DockerEngine,
    private readonly images: ImagePulls,
    private readonly network: WorkerNetwork,
    private readonly sightings: Sightings,
    private readonly placement: { readonly owner: string; readonly config: DockerConfig },
    private readonly logger: Logger,
  ) {}

  /** Resolves with why it can't be, or `undefined` when it was started (or another manager starts it). */
  async start(workload: Workload, spec: string, slot: number, signal: AbortSignal): Promise<WorkloadFault | undefined> {
    const { owner, config } = this.placement;
    const { image, network, internal } = config;
    const { functionId } = workload;
    const name = slotName(functionId, slot);
    const archive = await codeArchive(workload.code);
    let id: string;
    try {
      id = await this.engine.create(name, containerConfig(workload, { owner, spec, image, network, internal }), signal);
    } catch (error) {
      if (isConflict(error)) return this.nameTaken(name, signal);
      if (isMissing(error) && /no such image|not found: manifest/i.test((error as Error).message)) {
        return this.images.absent(image, functionId);
      }
      return rejected(error);
    }
    try {
      await this.engine.putArchive(id, CODE_DIR, archive, signal);
      this.sightings.started(functionId, id);
      await this.engine.start(id, signal);
    } catch (error) {
      return this.failed(id, error, signal);
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

  /** What never ran is removed at once; when that fails too, the next step finds it by its state. */
  private async failed(id: string, error: unknown, signal: AbortSignal): Promise<WorkloadFault | undefined> {
    if (!(error instanceof EngineRefusal)) throw error;
    if (isMissing(error) && /network/i.test(error.message)) this.network.forget();
    // Another manager took it for a leftover and replaced it.
    const vanished = isMissing(error) && /no such container/i.test(error.message);
    if (!vanished) await this.engine.remove(id, true, signal);
    return vanished ? undefined : rejected(error);
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
  if (error instanceof OrchestratorUnavailable || !(error instanceof EngineRefusal)) throw error;
  return faultOf(`The engine refused the worker: ${error.message}`);
}

export function faultOf(message: string): WorkloadFault {
  return { code: 'rejected', message, terminal: false, at: new Date() };
}
