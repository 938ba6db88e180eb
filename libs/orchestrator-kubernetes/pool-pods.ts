import { randomBytes } from 'node:crypto';
import type { V1Deployment, V1Pod } from '@kubernetes/client-node';
import type { Logger } from 'pino';
import type { OneTimeToken } from '#libs/orchestrator/generic-worker.js';
import { OrphanedWorkers } from '#libs/orchestrator/orphaned-workers.js';
import type { WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import type { PoolMember, PoolSource } from '#libs/orchestrator/warm-pool.js';
import { ApiRefusal, isConflict } from './api-fault.js';
import { CONFIG_MAP, POD } from './kinds.js';
import type { KubeApi } from './kube-api.js';
import { isSweep, LABEL, waitingOf } from './labels.js';
import { POOL_OWNER } from './names.js';
import { type PoolPlacement, poolOwner, poolPod } from './pool-pod.js';
import { type Replica, replicasOf } from './replica.js';
import type { ClusterCache } from './cluster-cache.js';
import { replicaFailure, unscheduled } from './faults.js';

const START_MS = 60_000;
const REMOVE_MS = 20_000;
const LOOK_AGAIN_MS = 1_000;
/** Longer than a generic worker takes to start. */
const SILENT_MS = 90_000;
/** Pods of no function are the pool's. */
const NOBODY = '';

export interface PoolPod extends PoolMember {
  readonly uid: string;
}

/** Generic workers as pods of their own, which no controller replaces: each has a token that only this manager knows. */
export class PoolPods implements PoolSource<PoolPod> {
  private readonly orphans = new OrphanedWorkers(SILENT_MS);
  private hasSaidIt = false;

  constructor(
    private readonly api: KubeApi,
    private readonly cache: ClusterCache,
    private readonly placement: PoolPlacement,
    private readonly tokens: WorkerTokens,
    private readonly logger: Logger,
  ) {}

  async start({ token, sha256 }: OneTimeToken, closing: AbortSignal, leaseMs: number): Promise<PoolPod> {
    const signal = AbortSignal.any([closing, AbortSignal.timeout(START_MS)]);
    await this.cache.current(signal);
    const call = this.tokens.issue();
    const name = `faas-pool-${randomBytes(8).toString('hex')}`;
    try {
      const owner = await ownerOfPods(this.api, signal);
      const pod = await this.make((placement) => poolPod(name, sha256, leaseMs, call, placement, owner));
      this.cache.pods.learn(pod);
      const address = await this.addressOf(name, signal);
      return { id: name, uid: pod.metadata?.uid ?? '', address, token, call };
    } catch (error) {
      await this.end(name, {});
      throw error;
    }
  }

  async remove({ id, uid }: Pick<PoolPod, 'id' | 'uid'>): Promise<void> {
    await this.end(id, { preconditions: { uid } });
  }

  /** A cluster doesn't tell how much room it has. Where a function lacks room, the pool gives up its pods. */
  room(): Promise<number> {
    const { pods, deployments } = this.cache;
    return Promise.resolve(isShortOfRoom(pods.all(), deployments.all()) ? -Infinity : Infinity);
  }

  /** Removes what is left of managers that have died. A worker that still waits ends by itself, and is removed then. */
  async sweep(isOurs: (name: string) => boolean, signal: AbortSignal): Promise<void> {
    const { items } = await this.api.list<V1Pod>(POD, waitingOf(this.placement.owner), signal);
    const others = replicasOf(items, []).filter(({ name, leaving }) => !leaving && !isOurs(name));
    this.orphans.keep(new Set(others.map(({ name }) => name)));
    for (const one of others) {
      if (await this.isOrphaned(one)) await this.remove({ id: one.name, uid: one.pod.metadata?.uid ?? '' });
    }
  }

  /** With its priority class, where the cluster has that. */
  private async make(manifest: (placement: PoolPlacement) => V1Pod): Promise<V1Pod> {
    const { placement } = this;
    // Not aborted: nobody would know whether the pod was made.
    const apply = (pod: V1Pod) => this.api.apply(POD, pod, AbortSignal.timeout(START_MS));
    try {
      return await apply(manifest(placement));
    } catch (error) {
      const { poolPriorityClass } = placement.config;
      if (poolPriorityClass === undefined || !lacksPriorityClass(error)) throw error;
      if (!this.hasSaidIt) {
        this.logger.warn(
          { priorityClass: poolPriorityClass },
          'the PriorityClass of waiting pods does not exist: they give way to nothing until it is made',
        );
      }
      this.hasSaidIt = true;
      // Nor with the class of functions' pods, which would have waiting ones take others' places.
      const { priorityClassName: _, ...workerPods } = placement.config.workerPods;
      return apply(
        manifest({ ...placement, config: { ...placement.config, workerPods, poolPriorityClass: undefined } }),
      );
    }
  }

  private async isOrphaned({ name, ended, running, address }: Replica): Promise<boolean> {
    return ended || this.orphans.has(name, running ? address : undefined);
  }

  private async addressOf(name: string, signal: AbortSignal): Promise<PoolMember['address']> {
    for (;;) {
      const known = this.cache.pods.get(NOBODY, name);
      const [pod] = known === undefined ? [] : replicasOf([known], []);
      if (pod?.running === true && pod.address !== undefined) return pod.address;
      if (pod === undefined || pod.ended || pod.leaving) throw new Error('a generic worker ended before it was ready');
      await this.cache.change(NOBODY, LOOK_AGAIN_MS, signal);
    }
  }

  /** At once, as nobody calls it; without the caller's signal, so that a caller that gives up leaves no pod behind. */
  private async end(name: string, more: { readonly preconditions?: { readonly uid: string } }): Promise<void> {
    const options = { gracePeriodSeconds: 1, ...more };
    await this.api.delete(POD, name, options, AbortSignal.timeout(REMOVE_MS)).catch((error: unknown) => {
      if (!isConflict(error)) throw error;
    });
  }
}

/** The uid of what pods without a controller hang on. */
export async function ownerOfPods(api: KubeApi, signal: AbortSignal): Promise<string> {
  const there = await api.find(CONFIG_MAP, POOL_OWNER, signal);
  const owner = there ?? (await api.apply(CONFIG_MAP, poolOwner(api.namespace), signal));
  return owner.metadata?.uid ?? '';
}

function lacksPriorityClass(error: unknown): boolean {
  return error instanceof ApiRefusal && error.message.includes('no PriorityClass with name');
}

const OVER_QUOTA = 'exceeded quota';

/** Whether replicas of functions wait for what other pods take: a place on a node, or a part of the namespace's quota. */
export function isShortOfRoom(pods: readonly V1Pod[], deployments: readonly V1Deployment[]): boolean {
  const isOfFunction = (pod: V1Pod) => pod.metadata?.labels?.[LABEL.pool] === undefined && !isSweep(pod);
  return (
    pods.some((pod) => isOfFunction(pod) && unscheduled(pod) !== undefined) ||
    deployments.some((deployment) => replicaFailure(deployment)?.message.includes(OVER_QUOTA))
  );
}
