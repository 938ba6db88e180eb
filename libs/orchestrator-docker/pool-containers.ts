import { randomBytes } from 'node:crypto';
import type { ContainerInfo } from 'dockerode';
import type { OneTimeToken } from '#libs/orchestrator/generic-worker.js';
import { IdleProcessors } from '#libs/orchestrator/idle-processors.js';
import { roomIn } from '#libs/orchestrator/pool-target.js';
import { OrphanedWorkers } from '#libs/orchestrator/orphaned-workers.js';
import type { WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import type { PoolMember, PoolSource } from '#libs/orchestrator/warm-pool.js';
import type { ColdStartQueue } from './cold-start-queue.js';
import { genericConfig, type Placement, type WorkerLimits } from './container-config.js';
import type { DockerEngine } from './docker-engine.js';
import { fromPoolOf } from './labels.js';
import { addressOf, functionIdOf, replicaOf } from './replica.js';
import type { WorkerNetwork } from './worker-network.js';
import type { WorkerSeccomp } from './worker-seccomp.js';

const START_MS = 60_000;
const REMOVE_MS = 20_000;
/** Longer than a generic worker takes to start. */
const SILENT_MS = 60_000;

export interface PoolContainer extends PoolMember {
  readonly hostPort: number;
}

/** Generic workers as containers; their name is no function's. */
export class PoolContainers implements PoolSource<PoolContainer> {
  private readonly ownProcessors = new IdleProcessors();
  private readonly orphans = new OrphanedWorkers(SILENT_MS);

  constructor(
    private readonly engine: DockerEngine,
    private readonly network: WorkerNetwork,
    private readonly seccomp: WorkerSeccomp,
    private readonly placement: Placement,
    private readonly limits: WorkerLimits,
    private readonly coldStarts: ColdStartQueue,
    private readonly tokens: WorkerTokens,
  ) {}

  get processors(): IdleProcessors | undefined {
    return this.engine.isLocal ? this.ownProcessors : undefined;
  }

  get mustWait(): boolean {
    return this.coldStarts.hasWaiting;
  }

  async start({ token, sha256 }: OneTimeToken, closing: AbortSignal, leaseMs: number): Promise<PoolContainer> {
    closing.throwIfAborted();
    // Not ended half way: the engine would go on making a container whose id nobody is told.
    const signal = AbortSignal.timeout(START_MS);
    const [reach, seccomp] = await Promise.all([this.network.ready(), this.seccomp.profile()]);
    const name = `faas-pool-${randomBytes(8).toString('hex')}`;
    const call = this.tokens.issue();
    const config = genericConfig(this.placement, this.limits, sha256, leaseMs, { reach, call, seccomp });
    const id = await this.engine.create(name, config, signal);
    try {
      await this.engine.start(id, signal);
      const [container] = await this.engine.list([], signal, { id: [id] });
      if (container === undefined) throw new Error('a generic worker is gone already');
      const replica = replicaOf(container);
      const address = addressOf(replica, this.placement.network, reach);
      if (address === undefined) throw new Error('a generic worker got no address');
      return { id, address, token, call, hostPort: replica.hostPort };
    } catch (error) {
      await this.remove({ id });
      throw error;
    }
  }

  /** Of no caller's signal: who gives up waiting must not leave it behind. */
  async remove({ id }: Pick<PoolContainer, 'id'>): Promise<void> {
    await this.engine.remove({ id, volume: undefined }, true, AbortSignal.timeout(REMOVE_MS));
  }

  async hasEnded({ id }: PoolContainer): Promise<boolean> {
    const [container] = await this.engine.list([], AbortSignal.timeout(REMOVE_MS), { id: [id] });
    return container?.State !== 'running';
  }

  async room(members: number): Promise<number> {
    return roomIn(await this.engine.freeBytes(AbortSignal.timeout(REMOVE_MS)), members);
  }

  /**
   * Removes workers of the pool whose manager has died: those that have ended, those that were never started, and
   * those that got a function but not its name. One that still waits ends by itself.
   */
  async sweep(isOurs: (id: string) => boolean, signal: AbortSignal): Promise<void> {
    const containers = await this.engine.list(fromPoolOf(this.placement.owner), signal);
    const unnamed = containers.filter((one) => functionIdOf(one) === undefined && !isOurs(one.Id));
    this.orphans.keep(new Set(unnamed.map(({ Id }) => Id)));
    for (const container of unnamed)
      if (await this.isOrphaned(container))
        await this.engine.remove({ id: container.Id, volume: undefined }, true, signal);
  }

  private async isOrphaned(container: ContainerInfo): Promise<boolean> {
    if (container.State === 'exited' || container.State === 'dead') return true;
    const address = addressOf(replicaOf(container), this.placement.network, await this.network.ready());
    return this.orphans.has(container.Id, address, container.State !== 'created');
  }
}
