import type { Logger } from 'pino';
import { workerVariables } from '#libs/orchestrator/generic-worker.js';
import { probeHealth } from '#libs/orchestrator/health-probe.js';
import type { PoolMember, WarmPool } from '#libs/orchestrator/warm-pool.js';
import type { Workload } from '#libs/orchestrator/workload.js';
import type { Claims } from './claims.js';
import { resources, type WorkerLimits } from './container-config.js';
import type { DockerEngine } from './docker-engine.js';
import type { PoolContainers } from './pool-containers.js';
import { slotName } from './replica.js';
import type { Sightings } from './sightings.js';

/** A handler that loads more slowly is looked at again like any that starts. */
const LOAD_MS = 500;
const DROP_MS = 5_000;

/** Makes a function's replica of a generic worker that is ready. */
export class WarmStarter {
  constructor(
    private readonly engine: DockerEngine,
    private readonly pool: WarmPool<PoolMember>,
    private readonly containers: PoolContainers,
    private readonly claims: Claims,
    private readonly sightings: Sightings,
    private readonly limits: WorkerLimits,
    private readonly logger: Logger,
  ) {}

  /** False when there is none, or it wouldn't do: then nothing of it is left, and the caller starts one cold. */
  async start(workload: Workload, spec: string, slot: number, signal: AbortSignal): Promise<boolean> {
    const member = this.pool.take();
    if (member === undefined) return false;
    const { functionId, revision } = workload;
    try {
      await this.limit(member, workload, signal);
      await this.claims.make(member.id, workload, spec, signal);
      // Whichever of these is missing when this manager is killed: no call gets to it before all are done, and what it
      // is then found to be is discarded.
      const steps = await Promise.allSettled([
        this.giveFunction(member, workload, signal),
        this.engine.rename(member.id, slotName(functionId, slot), signal),
      ]);
      const failed = steps.find((step) => step.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
      this.sightings.started(functionId, member.id, steps[0].status === 'fulfilled' && steps[0].value);
    } catch (error) {
      await this.discard(member);
      signal.throwIfAborted();
      // Also when another manager has filled the slot: the cold start then finds that out.
      this.logger.info({ err: error, functionId, replica: member.id.slice(0, 12) }, 'warm start failed');
      return false;
    }
    this.logger.info({ functionId, revision, replica: member.id.slice(0, 12), warm: true }, 'replica started');
    return true;
  }

  /** True when it has loaded it already. */
  private async giveFunction(member: PoolMember, workload: Workload, signal: AbortSignal): Promise<boolean> {
    await this.pool.specialise(member, { environment: workerVariables(workload), code: workload.code }, signal);
    return (await probeHealth(member.address, LOAD_MS)).good;
  }

  private async limit({ id }: PoolMember, { limits }: Workload, signal: AbortSignal): Promise<void> {
    const wanted = resources(limits);
    if (JSON.stringify(wanted) !== JSON.stringify(resources(this.limits))) await this.engine.update(id, wanted, signal);
  }

  private async discard(member: PoolMember): Promise<void> {
    try {
      await this.containers.remove(member);
      await this.claims.drop(member.id, AbortSignal.timeout(DROP_MS));
    } catch (error) {
      // The next step finds it by its name, or a sweep by its lack of one.
      this.logger.debug({ err: error, replica: member.id.slice(0, 12) }, 'generic worker not removed');
    }
  }
}
