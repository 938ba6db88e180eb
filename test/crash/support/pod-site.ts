import type { V1Pod } from '@kubernetes/client-node';
import { POD } from '#libs/orchestrator-kubernetes/kinds.js';
import { LABEL } from '#libs/orchestrator-kubernetes/labels.js';
import { isEnded, podOf } from '#libs/orchestrator-kubernetes/replica.js';
import type { ApiProxy } from '../../kubernetes/support/api-proxy.js';
import type { KubernetesRoom } from '../../kubernetes/support/kubernetes-room.js';
import type { CrashEngine, CrashSite, EngineDaemon, WorkerView } from './site.js';

const POOL_SIZE = 2;

/**
 * Workers as pods of a namespace that belongs to the suite alone: whatever has our label there is the managers' doing.
 * The cluster outlives the managers; its API server can be away from them while its pods go on.
 */
export abstract class PodSite implements CrashSite {
  abstract readonly engine: CrashEngine;
  readonly pool?: NonNullable<CrashSite['pool']>;
  /** Where workers don't live on, their node is taken to have gone down with the API server. */
  readonly daemon: EngineDaemon = {
    kill: () => this.proxy.cut(),
    restart: async (keepWorkers) => {
      await this.proxy.mend();
      if (keepWorkers) return;
      const waiting = (await this.pool?.waiting()) ?? [];
      for (const worker of [...(await this.workers()), ...waiting]) await this.kill(worker);
    },
  };

  protected constructor(
    private readonly room: KubernetesRoom,
    /** The managers' way to the API server. */
    private readonly proxy: ApiProxy,
    private readonly options: PodSiteOptions,
  ) {
    if (options.hasPool) this.pool = { size: POOL_SIZE, waiting: () => this.views(isWaiting) };
  }

  get env(): Readonly<Record<string, string>> {
    const { env, hasPool } = this.options;
    return { ...this.room.env, ...(hasPool && { WARM_POOL_SIZE: String(POOL_SIZE) }), ...env };
  }

  workers(): Promise<WorkerView[]> {
    return this.views((pod) => functionOf(pod) !== '');
  }

  async leaks(functionIds: ReadonlySet<string>): Promise<string[]> {
    const ofPool = (await this.pods()).filter(({ metadata }) => metadata?.labels?.[LABEL.pool] !== undefined);
    const waiting = new Set(ofPool.filter(isWaiting).map((pod) => `Pod ${nameOf(pod)}`));
    const fromPool = ofPool.filter((pod) => functionIds.has(functionOf(pod)) && !isLeaving(pod));
    return [
      ...(await this.room.cluster.leftovers([...functionIds])).filter((one) => !waiting.has(one)),
      // Its function's own pods are there by now, or it has ended.
      ...fromPool.map((pod) => `Pod ${nameOf(pod)} (${pod.status?.phase}) still serves ${functionOf(pod)}`),
    ];
  }

  async kill(worker: WorkerView): Promise<void> {
    if (worker.functionId === '') await this.killWaiting(podOf(worker.replica), worker.replica.split('://')[1] ?? '');
    else await this.killServing(worker);
  }

  async cutWatches(): Promise<void> {
    this.proxy.dropWatches();
  }

  async close(): Promise<void> {
    await this.room.clear();
    await this.proxy.cut();
  }

  /** Its process, which nothing starts again. It may be gone already. */
  protected abstract killWaiting(pod: string, containerId: string): Promise<void>;
  protected abstract killServing(worker: WorkerView): Promise<void>;

  private pods(): Promise<V1Pod[]> {
    return this.room.cluster.ours(POD);
  }

  private async views(isWanted: (pod: V1Pod) => boolean): Promise<WorkerView[]> {
    const pods = (await this.pods()).filter((pod) => isWanted(pod) && !isLeaving(pod));
    return pods.map((pod) => ({
      functionId: functionOf(pod),
      replica: `${nameOf(pod)}/${pod.status?.containerStatuses?.[0]?.containerID ?? ''}`,
      pid: 0,
      runners: undefined,
    }));
  }
}

export interface PodSiteOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly hasPool: boolean;
}

/** Of the pool, nobody's, and good for somebody, now or as soon as it has started. */
function isWaiting(pod: V1Pod): boolean {
  const isOfPool = pod.metadata?.labels?.[LABEL.pool] !== undefined;
  return isOfPool && functionOf(pod) === '' && !isLeaving(pod) && !isEnded(pod.status);
}

function isLeaving({ metadata }: V1Pod): boolean {
  return metadata?.deletionTimestamp !== undefined;
}

function functionOf({ metadata }: V1Pod): string {
  return metadata?.labels?.[LABEL.functionId] ?? '';
}

function nameOf({ metadata }: V1Pod): string {
  return metadata?.name ?? '';
}
