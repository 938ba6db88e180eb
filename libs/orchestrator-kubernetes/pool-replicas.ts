import type { Logger } from 'pino';
import { settled } from '#libs/deadlines/within.js';
import { specialisationOf } from '#libs/orchestrator/generic-worker.js';
import { HealthProber, probeHealth } from '#libs/orchestrator/health-probe.js';
import type { FetchedLayer } from '#libs/orchestrator/layers.js';
import type { WarmPool } from '#libs/orchestrator/warm-pool.js';
import type { WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import type { EndpointAddress, FunctionId, Workload } from '#libs/orchestrator/workload.js';
import { isConflict } from './api-fault.js';
import { POD } from './kinds.js';
import type { KubeApi } from './kube-api.js';
import { functionLabels } from './labels.js';
import { variablesOf } from './pod-template.js';
import type { PoolPlacement } from './pool-pod.js';
import type { PoolPod, PoolPods } from './pool-pods.js';
import { type Replica, replicasOf } from './replica.js';
import type { ClusterCache } from './cluster-cache.js';
import { graceSeconds } from './worker-pod.js';

/** A handler that loads more slowly is looked at again like any that starts. */
const LOAD_MS = 500;

/**
 * Pods of the pool that serve a function until its own are ready, so that nobody waits for a scheduler and an image.
 * They carry other labels than the function's own: Deployment, Service and autoscaler know nothing of them.
 */
export class PoolReplicas {
  private readonly prober: HealthProber;
  private readonly closing = new AbortController();
  private readonly tracked = new Map<string, FunctionId>();
  private following = false;

  constructor(
    private readonly api: KubeApi,
    private readonly cache: ClusterCache,
    private readonly pool: WarmPool<PoolPod>,
    private readonly pods: PoolPods,
    private readonly tokens: WorkerTokens,
    private readonly place: Pick<PoolPlacement, 'config' | 'limits'>,
    private readonly logger: Logger,
  ) {
    this.prober = new HealthProber((functionId) => cache.hint(functionId));
  }

  /**
   * Gives a pod to a workload that nothing serves yet. True when it answers already, false while it loads; undefined
   * where there is none that fits, so that the function's own pods must be waited for.
   */
  async begin(
    workload: Workload,
    spec: string,
    layer: FetchedLayer | undefined,
    signal: AbortSignal,
  ): Promise<boolean | undefined> {
    if (!this.fits(workload)) return undefined;
    const member = this.pool.take();
    if (member === undefined) return undefined;
    const { functionId, revision } = workload;
    try {
      // When this manager is killed with but one of these done, nobody calls the pod: as the function's it goes with
      // its other pods, as the pool's it is swept.
      const [, isReady] = await settled([
        this.claim(member, workload, spec, signal),
        this.giveFunction(member, workload, layer, signal),
      ]);
      this.logger.info({ functionId, revision, pod: member.id, warm: true }, 'replica started');
      return isReady;
    } catch (error) {
      await this.discard(member);
      signal.throwIfAborted();
      this.logger.info({ err: error, functionId, pod: member.id }, 'warm start failed');
      return undefined;
    }
  }

  /** Whether it has loaded its function, as last asked. */
  answers(id: string): boolean {
    return this.prober.health(id) === 'ready';
  }

  /** Asks those of a function that were never asked, as those are that another manager began. */
  async look(functionId: FunctionId): Promise<void> {
    const running = this.of(functionId).filter(({ running: runs, leaving }) => runs && !leaving);
    for (const { id, address, credential } of running) {
      if (address !== undefined) this.track(id, functionId, address, 'starting', this.tokens.tokenFor(credential));
    }
    await Promise.all(running.map(({ id }) => this.prober.probed(id)));
  }

  /** Removes pods that are needed no longer; they finish the calls they have. */
  async retire(workload: Workload, poolReplicas: readonly Replica[], signal: AbortSignal): Promise<void> {
    const { limits, formerTimeoutMs = limits.timeoutMs } = workload;
    const gracePeriodSeconds = graceSeconds(Math.max(limits.timeoutMs, formerTimeoutMs));
    for (const { id, name, pod, leaving } of poolReplicas) {
      this.forget(id);
      if (leaving) continue;
      const options = { gracePeriodSeconds, preconditions: { uid: pod.metadata?.uid } };
      await this.api.delete(POD, name, options, signal).catch((error: unknown) => {
        if (!isConflict(error)) throw error;
      });
      this.logger.info(
        { functionId: workload.functionId, pod: name },
        'pool pod removed: the function’s own pods are ready',
      );
    }
  }

  close(): void {
    this.closing.abort();
    this.prober.close();
  }

  private fits({ limits }: Workload): boolean {
    const { cpuMillis, memoryMiB, pids } = this.place.limits;
    return limits.cpuMillis === cpuMillis && limits.memoryMiB === memoryMiB && limits.pids === pids;
  }

  /** Of this very pod: it has no other claimants, but may have been deleted. */
  private async claim({ id, uid }: PoolPod, workload: Workload, spec: string, signal: AbortSignal): Promise<void> {
    const metadata = { uid, labels: functionLabels(workload, spec) };
    this.cache.pods.learn(await this.api.merge(POD, id, { metadata }, signal));
  }

  /** True when it has loaded it already. */
  private async giveFunction(
    member: PoolPod,
    workload: Workload,
    layer: FetchedLayer | undefined,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { id, address, call } = member;
    const specialisation = specialisationOf(workload, variablesOf(workload, layer, this.place.config));
    await this.pool.specialise(member, { ...specialisation, layer }, signal);
    const { good } = await probeHealth(address, LOAD_MS, call.token);
    const pod = this.cache.pods.find(id);
    const [replica] = pod === undefined ? [] : replicasOf([pod], []);
    if (replica !== undefined) {
      this.track(replica.id, workload.functionId, address, good ? 'ready' : 'starting', call.token);
    }
    return good;
  }

  private track(
    id: string,
    functionId: FunctionId,
    address: EndpointAddress,
    health: 'starting' | 'ready',
    token: string | undefined,
  ): void {
    this.prober.track(id, functionId, address, health, token);
    this.tracked.set(id, functionId);
    if (this.following) return;
    this.following = true;
    void this.cache.follow((changed) => this.forgetGone(changed), this.closing.signal);
  }

  /** Whoever else may have ended them. */
  private forgetGone(changed: FunctionId | undefined): void {
    for (const [id, functionId] of this.tracked) {
      if (changed !== undefined && changed !== functionId) continue;
      const there = this.of(functionId).find((one) => one.id === id);
      if (there?.running !== true || there.leaving) this.forget(id);
    }
  }

  private forget(id: string): void {
    this.prober.forget(id);
    this.tracked.delete(id);
  }

  private of(functionId: FunctionId): Replica[] {
    return replicasOf(this.cache.pods.of(functionId), []).filter(({ fromPool }) => fromPool);
  }

  private async discard({ id, uid }: PoolPod): Promise<void> {
    try {
      await this.pods.remove({ id, uid });
    } catch (error) {
      // The function's next step finds it by its labels, or a sweep by the lack of them.
      this.logger.debug({ err: error, pod: id }, 'generic worker not removed');
    }
  }
}
