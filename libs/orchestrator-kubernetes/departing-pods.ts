import type { Departures } from '#libs/orchestrator/departures.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import type { ClusterCache } from './cluster-cache.js';
import type { KubeApi } from './kube-api.js';
import { deploymentName } from './names.js';
import { logsOf } from './pod-logs.js';
import { type Replica, replicasOf } from './replica.js';

const MOST_REMEMBERED = 2_000;

/**
 * Reads the logs of pods that go. Whoever ends them, an autoscaler, a rollout, an eviction, asks no manager before: so the
 * log is read when the watch shows that a pod is being deleted, and again when its container has ended, as long as the
 * node still has it.
 */
export class DepartingPods {
  private readonly told = new Set<string>();
  private readonly closing = new AbortController();
  private isStarted = false;

  constructor(
    private readonly api: KubeApi,
    private readonly cache: ClusterCache,
    private readonly departures: Departures,
  ) {}

  start(): void {
    if (this.isStarted) return;
    this.isStarted = true;
    void this.cache.follow((functionId) => this.look(functionId), this.closing.signal);
  }

  close(): void {
    this.closing.abort();
  }

  private look(functionId: FunctionId | undefined): void {
    if (functionId === undefined || functionId === '' || this.isRemoved(functionId)) return;
    for (const replica of replicasOf(this.cache.pods.of(functionId), [])) {
      const { leaving, ended, status } = replica;
      const former = status?.lastState?.terminated?.containerID;
      if (former !== undefined) this.tell(functionId, replica, `${former} ended`, 0);
      if (leaving) this.tell(functionId, replica, `${replica.id} leaves`, -1);
      if (ended || (leaving && status?.state?.terminated !== undefined)) {
        this.tell(functionId, replica, `${replica.id} ended`, -1);
      }
    }
  }

  /** Its logs go with it. */
  private isRemoved(functionId: FunctionId): boolean {
    const deployment = this.cache.deployments.get(functionId, deploymentName(functionId));
    return deployment === undefined || deployment.metadata?.deletionTimestamp !== undefined;
  }

  /** @param which of the pod's logs */
  private tell(functionId: FunctionId, replica: Replica, what: string, which: 0 | -1): void {
    if (this.told.has(what)) return;
    this.told.add(what);
    const [oldest] = this.told;
    if (this.told.size > MOST_REMEMBERED && oldest !== undefined) this.told.delete(oldest);
    const log = logsOf(this.api, replica).at(which);
    if (log !== undefined) void this.departures.tell(functionId, log);
  }
}
