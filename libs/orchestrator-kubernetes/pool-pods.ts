import { randomBytes } from 'node:crypto';
import type { V1Pod } from '@kubernetes/client-node';
import type { OneTimeToken } from '#libs/orchestrator/generic-worker.js';
import { Strays } from '#libs/orchestrator/strays.js';
import type { WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import type { PoolMember, PoolSource } from '#libs/orchestrator/warm-pool.js';
import { isConflict } from './api-fault.js';
import { CONFIG_MAP, POD } from './kinds.js';
import type { KubeApi } from './kube-api.js';
import { waitingOf } from './labels.js';
import { POOL_OWNER } from './names.js';
import { poolPod, type PoolPlacement } from './pool-pod.js';
import { type Replica, replicasOf } from './replica.js';
import { isShortOfRoom } from './room.js';
import type { View } from './view.js';

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
  private readonly strays = new Strays(SILENT_MS);

  constructor(
    private readonly api: KubeApi,
    private readonly view: View,
    private readonly placement: PoolPlacement,
    private readonly tokens: WorkerTokens,
  ) {}

  async start({ token, sha256 }: OneTimeToken, closing: AbortSignal, leaseMs: number): Promise<PoolPod> {
    const signal = AbortSignal.any([closing, AbortSignal.timeout(START_MS)]);
    await this.view.current(signal);
    const call = this.tokens.issue();
    const name = `faas-pool-${randomBytes(8).toString('hex')}`;
    try {
      const owner = await this.api.find(CONFIG_MAP, POOL_OWNER, signal);
      const manifest = poolPod(name, sha256, leaseMs, call, this.placement, owner?.metadata?.uid);
      // Not ended half way: nobody would know whether there is a pod now.
      const pod = await this.api.apply(POD, manifest, AbortSignal.timeout(START_MS));
      this.view.pods.learn(pod);
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

  /** What the cluster has room for it doesn't tell. But where a function lacks it, those that only wait make room. */
  room(): Promise<number> {
    const { pods, deployments } = this.view;
    return Promise.resolve(isShortOfRoom(pods.all(), deployments.all()) ? -Infinity : Infinity);
  }

  /** Removes what is left of managers that have died. A worker that still waits ends by itself, and is removed then. */
  async sweep(isOurs: (name: string) => boolean, signal: AbortSignal): Promise<void> {
    const { items } = await this.api.list<V1Pod>(POD, waitingOf(this.placement.owner), signal);
    const others = replicasOf(items, []).filter(({ name, leaving }) => !leaving && !isOurs(name));
    this.strays.keep(new Set(others.map(({ name }) => name)));
    for (const one of others) {
      if (await this.isStray(one)) await this.remove({ id: one.name, uid: one.pod.metadata?.uid ?? '' });
    }
  }

  private async isStray({ name, ended, running, address }: Replica): Promise<boolean> {
    return ended || this.strays.has(name, running ? address : undefined);
  }

  private async addressOf(name: string, signal: AbortSignal): Promise<PoolMember['address']> {
    for (;;) {
      const known = this.view.pods.get(NOBODY, name);
      const [pod] = known === undefined ? [] : replicasOf([known], []);
      if (pod?.running === true && pod.address !== undefined) return pod.address;
      if (pod === undefined || pod.ended || pod.leaving) throw new Error('a generic worker ended before it was ready');
      await this.view.change(NOBODY, LOOK_AGAIN_MS, signal);
    }
  }

  /** At once: nobody calls it. Of no caller's signal: who gives up waiting must not leave it behind. */
  private async end(name: string, more: { readonly preconditions?: { readonly uid: string } }): Promise<void> {
    const options = { gracePeriodSeconds: 1, ...more };
    await this.api.delete(POD, name, options, AbortSignal.timeout(REMOVE_MS)).catch((error: unknown) => {
      if (!isConflict(error)) throw error;
    });
  }
}
