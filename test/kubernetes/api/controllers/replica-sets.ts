import type { Cluster } from '../cluster.js';
import { isFinished } from '../rules/admission.js';
import { PODS, REPLICA_SETS } from '../rest/resources.js';
import { Refusal } from '../rest/problems.js';
import {
  clone,
  controllerReference,
  isControlledBy,
  isLeaving,
  type StoredObject,
  timestamp,
} from '../store/objects.js';
import { matchesLabels } from '../store/selectors.js';
import type { Change } from '../store/store.js';
import { keyOf, Queue, splitKey } from './queue.js';
import { type Condition, isReady, type Pod, type ReplicaSet, untilAvailable } from './types.js';

const MANAGER = { manager: 'kube-controller-manager' };
const RETRY_MS = 500;

/** Keeps as many pods of each ReplicaSet as it wants. */
export class ReplicaSetController {
  private readonly cluster: Cluster;
  private readonly queue = new Queue((key) => this.reconcile(key));

  constructor(cluster: Cluster) {
    this.cluster = cluster;
  }

  onChange({ resource, object, previous }: Change): void {
    if (resource === REPLICA_SETS.key) this.queue.add(keyOf(object));
    if (resource !== PODS.key) return;
    for (const pod of [object, previous]) {
      const owner = pod?.metadata.ownerReferences?.find(({ controller }) => controller);
      if (owner?.kind === 'ReplicaSet') this.queue.add(`${object.metadata.namespace}/${owner.name}`);
    }
  }

  close(): void {
    this.queue.close();
  }

  private reconcile(key: string): void {
    const [namespace, name] = splitKey(key);
    const set = this.cluster.store.get(REPLICA_SETS.key, namespace, name) as ReplicaSet | undefined;
    if (set === undefined) return;
    this.release(set);
    const failure = isLeaving(set) ? undefined : this.scale(set);
    this.report(set, failure);
    if (failure !== undefined) this.queue.addAfter(key, RETRY_MS);
  }

  private podsOf(set: ReplicaSet): Pod[] {
    const all = this.cluster.store.list(PODS.key, set.metadata.namespace) as Pod[];
    return all.filter((pod) => isControlledBy(pod, set));
  }

  /** A pod whose labels were changed is no longer the set's. */
  private release(set: ReplicaSet): void {
    for (const pod of this.podsOf(set)) {
      if (matchesLabels(set.spec.selector, pod.metadata.labels)) continue;
      const freed = clone(pod);
      delete freed.metadata.ownerReferences;
      this.cluster.update(PODS, freed, pod, MANAGER);
    }
  }

  /** Answers why a pod can't be created. */
  private scale(set: ReplicaSet): string | undefined {
    const active = this.podsOf(set).filter((pod) => !isLeaving(pod) && !isFinished(pod));
    const missing = set.spec.replicas - active.length;
    try {
      for (let count = 0; count < missing; count += 1) this.createPod(set);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return error.message;
    }
    const surplus = active.toSorted(byWorth).slice(0, Math.max(0, -missing));
    for (const pod of surplus) this.cluster.remove(PODS, pod, {});
    return undefined;
  }

  private createPod(set: ReplicaSet): void {
    const { metadata = {}, spec } = set.spec.template;
    this.cluster.create(
      PODS,
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: {
          ...metadata,
          name: '',
          generateName: `${set.metadata.name}-`,
          namespace: set.metadata.namespace!,
          ownerReferences: [controllerReference(set)],
        },
        spec: clone(spec),
      },
      MANAGER,
    );
  }

  private report(set: ReplicaSet, failure: string | undefined): void {
    const current = this.cluster.store.get(REPLICA_SETS.key, set.metadata.namespace, set.metadata.name);
    if (current === undefined) return;
    const pods = this.podsOf(set);
    const active = pods.filter((pod) => !isLeaving(pod) && !isFinished(pod));
    const waits = active.map((pod) => untilAvailable(pod, set.spec.minReadySeconds));
    const next = Math.min(...waits.filter((ms) => ms > 0));
    if (Number.isFinite(next)) this.queue.addAfter(keyOf(set), next);
    const [ready, available] = [active.filter(isReady).length, waits.filter((ms) => ms === 0).length];
    this.cluster.setStatus(REPLICA_SETS, current, {
      replicas: active.length,
      fullyLabeledReplicas: active.length || undefined,
      readyReplicas: ready || undefined,
      availableReplicas: available || undefined,
      terminatingReplicas: pods.filter((pod) => isLeaving(pod) && !isFinished(pod)).length,
      observedGeneration: set.metadata.generation,
      conditions: failure === undefined ? undefined : [failureCondition(set, failure)],
    });
  }
}

function failureCondition(set: ReplicaSet, message: string): Condition {
  const known = set.status.conditions?.find(({ type }) => type === 'ReplicaFailure');
  const lastTransitionTime = known?.lastTransitionTime ?? timestamp();
  return { type: 'ReplicaFailure', status: 'True', lastTransitionTime, reason: 'FailedCreate', message };
}

/** The least worth comes first: not placed, not ready, cheap by its annotation, young. */
function byWorth(a: Pod, b: Pod): number {
  const rank = (pod: Pod) => [
    pod.spec.nodeName === undefined ? 0 : 1,
    pod.status.phase === 'Running' ? 1 : 0,
    isReady(pod) ? 1 : 0,
    Number(pod.metadata.annotations?.['controller.kubernetes.io/pod-deletion-cost'] ?? 0),
    -createdAt(pod),
  ];
  const [left, right] = [rank(a), rank(b)];
  const differing = left.findIndex((value, index) => value !== right[index]);
  return differing === -1 ? 0 : left[differing]! - right[differing]!;
}

function createdAt(pod: StoredObject): number {
  return Date.parse(pod.metadata.creationTimestamp);
}
