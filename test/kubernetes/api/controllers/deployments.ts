import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { Cluster } from '../cluster.js';
import { DEPLOYMENTS, REPLICA_SETS } from '../rest/resources.js';
import { clone, controllerReference, isControlledBy, isLeaving } from '../store/objects.js';
import type { Change } from '../store/store.js';
import { deploymentStatus, ifOverdue } from './deployment-status.js';
import { keyOf, Queue, splitKey } from './queue.js';
import { nextSizes, type SetView } from './rollout.js';
import type { Deployment, PodTemplate, ReplicaSet } from './types.js';

const MANAGER = { manager: 'kube-controller-manager' };
const HASH = 'pod-template-hash';
const REVISION = 'deployment.kubernetes.io/revision';
const HASH_LETTERS = 'bcdfghjklmnpqrstvwxz2456789';

/** Moves each Deployment's ReplicaSets towards its template and its scale. */
export class DeploymentController {
  private readonly cluster: Cluster;
  private readonly queue = new Queue((key) => this.reconcile(key));

  constructor(cluster: Cluster) {
    this.cluster = cluster;
  }

  onChange({ resource, object }: Change): void {
    if (resource === DEPLOYMENTS.key) this.queue.add(keyOf(object));
    if (resource !== REPLICA_SETS.key) return;
    const owner = object.metadata.ownerReferences?.find(({ controller }) => controller);
    if (owner?.kind === 'Deployment') this.queue.add(`${object.metadata.namespace}/${owner.name}`);
  }

  close(): void {
    this.queue.close();
  }

  private reconcile(key: string): void {
    const [namespace, name] = splitKey(key);
    const deployment = this.cluster.store.get(DEPLOYMENTS.key, namespace, name) as Deployment | undefined;
    if (deployment === undefined) return;
    const known = this.newest(deployment);
    // One that is paused keeps the scale of what it has, and gets nothing new.
    if (isLeaving(deployment) || (deployment.spec.paused === true && known === undefined)) {
      this.report(deployment, known);
      return;
    }
    const newest = known ?? this.createSet(deployment);
    const marked = this.markRevision(deployment, newest);
    this.resize(marked, this.newest(marked) ?? newest);
    this.forgetOldSets(marked, newest);
    this.report(marked, this.newest(marked));
  }

  private setsOf(deployment: Deployment): ReplicaSet[] {
    const all = this.cluster.store.list(REPLICA_SETS.key, deployment.metadata.namespace) as ReplicaSet[];
    return all.filter((set) => isControlledBy(set, deployment));
  }

  /** The oldest of those with the same template, so that going back to a former template finds its set. */
  private newest(deployment: Deployment): ReplicaSet | undefined {
    return this.setsOf(deployment)
      .toSorted((a, b) => createdAt(a) - createdAt(b))
      .find((set) => isDeepStrictEqual(withoutHash(set.spec.template), withoutHash(deployment.spec.template)));
  }

  private createSet(deployment: Deployment): ReplicaSet {
    const { namespace, name } = deployment.metadata;
    const { template, selector, minReadySeconds } = deployment.spec;
    const hash = hashOf(template);
    const labels = { ...template.metadata?.labels, [HASH]: hash };
    return this.cluster.create(
      REPLICA_SETS,
      {
        apiVersion: 'apps/v1',
        kind: 'ReplicaSet',
        metadata: {
          name: `${name}-${hash}`,
          namespace: namespace!,
          labels,
          ownerReferences: [controllerReference(deployment)],
        },
        spec: {
          replicas: 0,
          selector: { ...selector, matchLabels: { ...selector.matchLabels, [HASH]: hash } },
          template: { ...clone(template), metadata: { ...template.metadata, labels } },
          ...(minReadySeconds === undefined ? {} : { minReadySeconds }),
        },
      },
      MANAGER,
    ) as ReplicaSet;
  }

  /** Numbers the templates in the order in which they became the newest. */
  private markRevision(deployment: Deployment, newest: ReplicaSet): Deployment {
    const others = this.setsOf(deployment).filter((set) => set.metadata.uid !== newest.metadata.uid);
    const former = Math.max(0, ...others.map(revisionOf));
    const revision = String(revisionOf(newest) > former ? revisionOf(newest) : former + 1);
    for (const [resource, object] of [[REPLICA_SETS, newest] as const, [DEPLOYMENTS, deployment] as const]) {
      if (object.metadata.annotations?.[REVISION] === revision) continue;
      const next = clone(object);
      next.metadata.annotations = { ...next.metadata.annotations, [REVISION]: revision };
      this.cluster.update(resource, next, object, MANAGER);
    }
    return this.cluster.get(DEPLOYMENTS, deployment.metadata.namespace, deployment.metadata.name) as Deployment;
  }

  private resize(deployment: Deployment, newest: ReplicaSet): void {
    const { replicas, strategy } = deployment.spec;
    const { maxSurge = '25%', maxUnavailable = '25%' } = strategy.rollingUpdate ?? {};
    const plan = { replicas, maxSurge, maxUnavailable, recreate: strategy.type === 'Recreate' };
    const sets = this.setsOf(deployment);
    const older = sets.filter((set) => set.metadata.uid !== newest.metadata.uid);
    const sizes = nextSizes(plan, viewOf(newest), older.map(viewOf));
    for (const set of sets) {
      const size = sizes.get(set.metadata.name) ?? set.spec.replicas;
      if (size === set.spec.replicas) continue;
      const next = clone(set);
      next.spec.replicas = size;
      this.cluster.update(REPLICA_SETS, next, set, MANAGER);
    }
  }

  private forgetOldSets(deployment: Deployment, newest: ReplicaSet): void {
    const idle = this.setsOf(deployment).filter(
      (set) =>
        set.metadata.uid !== newest.metadata.uid &&
        !isLeaving(set) &&
        set.spec.replicas === 0 &&
        (set.status.replicas ?? 0) === 0 &&
        set.status.observedGeneration === set.metadata.generation,
    );
    const surplus = idle.length - deployment.spec.revisionHistoryLimit;
    for (const set of idle.toSorted((a, b) => revisionOf(a) - revisionOf(b)).slice(0, Math.max(0, surplus))) {
      this.cluster.remove(REPLICA_SETS, set, {});
    }
  }

  private report(deployment: Deployment, newest: ReplicaSet | undefined): void {
    const { namespace, name } = deployment.metadata;
    const current = this.cluster.store.get(DEPLOYMENTS.key, namespace, name) as Deployment | undefined;
    if (current === undefined) return;
    const status = deploymentStatus(current, newest, this.setsOf(current), new Date());
    this.cluster.setStatus(DEPLOYMENTS, current, status);
    const due = ifOverdue(current, status);
    if (due !== undefined) this.queue.addAfter(keyOf(current), due);
  }
}

function viewOf(set: ReplicaSet): SetView {
  return {
    name: set.metadata.name,
    replicas: set.spec.replicas,
    pods: set.status.replicas ?? 0,
    available: set.status.availableReplicas ?? 0,
    created: createdAt(set),
  };
}

function createdAt({ metadata }: ReplicaSet): number {
  return Date.parse(metadata.creationTimestamp);
}

function revisionOf({ metadata }: ReplicaSet): number {
  return Number(metadata.annotations?.[REVISION] ?? 0);
}

function withoutHash({ metadata = {}, spec }: PodTemplate): unknown {
  const { [HASH]: _, ...labels } = metadata.labels ?? {};
  return { metadata: { ...metadata, labels }, spec };
}

function hashOf(template: PodTemplate): string {
  const digest = createHash('sha256').update(JSON.stringify(template)).digest();
  return [...digest.subarray(0, 9)].map((byte) => HASH_LETTERS[byte % HASH_LETTERS.length]).join('');
}
