import type { Cluster } from '../cluster.js';
import { AUTOSCALERS, DEPLOYMENTS } from '../rest/resources.js';
import { clone, type StoredObject, timestamp } from '../store/objects.js';
import type { Change } from '../store/store.js';
import { keyOf, Queue, splitKey } from './queue.js';
import type { Deployment } from './types.js';

const MANAGER = { manager: 'kube-controller-manager', subresource: 'scale' };

interface Autoscaler extends StoredObject {
  spec: {
    minReplicas: number;
    maxReplicas: number;
    scaleTargetRef: { kind: string; name: string };
    behavior?: { scaleDown?: { stabilizationWindowSeconds?: number } };
  };
  status: { lastScaleTime?: string; conditions?: { reason?: string; lastTransitionTime?: string }[] };
}

const DOWN_WINDOW_SECONDS = 300;

/**
 * Keeps Deployments within their autoscalers' bounds. The load in between is what a test says it is; where it says
 * nothing there is none, and once their window is over Deployments come down to the fewest there may be.
 */
export class AutoscalerController {
  private readonly cluster: Cluster;
  private readonly queue = new Queue((key) => this.reconcile(key));
  /** What the metrics would ask for, by the autoscaler. */
  private readonly desired = new Map<string, number>();
  /** Since when a Deployment has as many replicas as it has, by the autoscaler. */
  private readonly counts = new Map<string, { readonly replicas: number; readonly since: number }>();

  constructor(cluster: Cluster) {
    this.cluster = cluster;
  }

  onChange({ resource, object }: Change): void {
    if (resource === AUTOSCALERS.key) this.queue.add(keyOf(object));
    if (resource !== DEPLOYMENTS.key) return;
    for (const scaler of this.cluster.store.list(AUTOSCALERS.key, object.metadata.namespace) as Autoscaler[]) {
      if (scaler.spec.scaleTargetRef.name === object.metadata.name) this.queue.add(keyOf(scaler));
    }
  }

  /** From now on the load asks for so many replicas; undefined: it asks for nothing. */
  desire(namespace: string, name: string, replicas: number | undefined): void {
    const key = `${namespace}/${name}`;
    if (replicas === undefined) this.desired.delete(key);
    else this.desired.set(key, replicas);
    this.queue.add(key);
  }

  close(): void {
    this.queue.close();
  }

  private reconcile(key: string): void {
    const [namespace, name] = splitKey(key);
    const scaler = this.cluster.store.get(AUTOSCALERS.key, namespace, name) as Autoscaler | undefined;
    if (scaler === undefined) return;
    const { minReplicas, maxReplicas, scaleTargetRef } = scaler.spec;
    const target = this.cluster.store.get(DEPLOYMENTS.key, namespace, scaleTargetRef.name) as Deployment | undefined;
    if (scaleTargetRef.kind !== 'Deployment' || target === undefined) {
      const message = `the HPA controller was unable to get the target's current scale: deployments.apps "${scaleTargetRef.name}" not found`;
      return this.report(scaler, 'FailedGetScale', 'False', message, 0, 0);
    }
    const current = target.spec.replicas;
    if (current === 0) {
      const message = 'scaling is disabled since the replica count of the target is zero';
      return this.report(scaler, 'ScalingDisabled', 'False', message, 0, 0);
    }
    const unasked = this.unasked(key, scaler, current);
    const wanted = Math.min(maxReplicas, Math.max(minReplicas, this.desired.get(key) ?? unasked));
    if (wanted !== current) {
      const next = clone(target);
      next.spec.replicas = wanted;
      this.cluster.update(DEPLOYMENTS, next, target, MANAGER);
      const message = `the HPA controller was able to update the target scale to ${wanted}`;
      return this.report(scaler, 'SucceededRescale', 'True', message, current, wanted);
    }
    this.report(scaler, 'ReadyForNewScale', 'True', 'recommended size matches current size', current, wanted);
  }

  /** Of a Deployment that no load asks anything of. */
  private unasked(key: string, { spec }: Autoscaler, current: number): number {
    let count = this.counts.get(key);
    if (count?.replicas !== current) this.counts.set(key, (count = { replicas: current, since: Date.now() }));
    const windowSeconds = spec.behavior?.scaleDown?.stabilizationWindowSeconds ?? DOWN_WINDOW_SECONDS;
    const leftMs = count.since + windowSeconds * 1000 - Date.now();
    if (current <= spec.minReplicas || leftMs <= 0) return spec.minReplicas;
    this.queue.addAfter(key, leftMs);
    return current;
  }

  private report(
    scaler: Autoscaler,
    reason: string,
    status: string,
    message: string,
    currentReplicas: number,
    desiredReplicas: number,
  ): void {
    const [known] = scaler.status.conditions ?? [];
    const lastTransitionTime = known?.reason === reason ? known.lastTransitionTime : timestamp();
    const lastScaleTime = reason === 'SucceededRescale' ? timestamp() : scaler.status.lastScaleTime;
    const type = reason === 'ScalingDisabled' ? 'ScalingActive' : 'AbleToScale';
    this.cluster.setStatus(AUTOSCALERS, scaler, {
      lastScaleTime,
      currentReplicas,
      desiredReplicas,
      currentMetrics: null,
      conditions: [{ type, status, lastTransitionTime, reason, message }],
    });
  }
}
