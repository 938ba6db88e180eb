import type { KubernetesObject, V1Pod } from '@kubernetes/client-node';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { ENGINE, isConflict } from './api-fault.js';
import { DEPLOYMENT, type Kind, OWNED, POD } from './kinds.js';
import type { KubeApi } from './kube-api.js';
import { ownedBy } from './labels.js';
import type { ClusterCache } from './cluster-cache.js';

/** A change that the informers don't tell of is looked for this often. */
const LOOK_AGAIN_MS = 500;
/** What is still there this long after its grace is held by a finalizer or by a node that doesn't answer. */
const OVERDUE_MS = 30_000;

/**
 * Takes all of a function's objects away, and returns when the API server has none of them left. Throws
 * {@link OrchestratorUnavailable} when a finalizer or a node blocks a deletion; asking again goes on with it.
 */
export class Removal {
  constructor(
    private readonly api: KubeApi,
    private readonly cache: ClusterCache,
    private readonly owner: string,
    private readonly overdueMs = OVERDUE_MS,
  ) {}

  async all(functionId: FunctionId, graceMs: number, signal: AbortSignal): Promise<void> {
    // A pod that is let go at once is still ended by its node, not only forgotten by the API server.
    const graceSeconds = Math.max(1, Math.ceil(graceMs / 1000));
    const selector = ownedBy(this.owner, functionId);
    const overdueAt = Date.now() + graceMs + this.overdueMs;
    for (;;) {
      const found = await Promise.all(
        OWNED.map(async (kind) => ({ kind, items: (await this.api.listMetadata(kind, selector, signal)).items })),
      );
      const pods = await this.api.list<V1Pod>(POD, selector, signal);
      if (pods.items.length === 0 && found.every(({ items }) => items.length === 0)) break;
      await Promise.all(found.flatMap(({ kind, items }) => items.map((object) => this.remove(kind, object, signal))));
      await Promise.all(pods.items.map((pod) => this.end(pod, graceSeconds, signal)));
      if (Date.now() > overdueAt)
        throw overdue([...pods.items, ...found.flatMap(({ items }) => items)], graceMs + this.overdueMs);
      await this.cache.change(functionId, LOOK_AGAIN_MS, signal);
    }
    this.cache.forget(functionId);
  }

  /** In the foreground, so that a Deployment is there for as long as anything of it is. */
  private async remove(kind: Kind, { metadata }: KubernetesObject, signal: AbortSignal): Promise<void> {
    if (metadata?.deletionTimestamp !== undefined) return;
    const options = kind === DEPLOYMENT ? { propagationPolicy: 'Foreground' } : {};
    await this.api.delete(kind, metadata?.name ?? '', options, signal);
  }

  /** A pod's own grace covers the longest call; this one may be shorter. */
  private async end({ metadata }: V1Pod, graceSeconds: number, signal: AbortSignal): Promise<void> {
    const leaving = metadata?.deletionTimestamp !== undefined;
    if (leaving && (metadata.deletionGracePeriodSeconds ?? 0) <= graceSeconds) return;
    const options = { gracePeriodSeconds: graceSeconds, preconditions: { uid: metadata?.uid } };
    await this.api.delete(POD, metadata?.name ?? '', options, signal).catch((error: unknown) => {
      // Another pod has its name already: that one is the next look's.
      if (!isConflict(error)) throw error;
    });
  }
}

function overdue(left: readonly KubernetesObject[], overdueMs: number): OrchestratorUnavailable {
  const names = left.map((object) => {
    const { name = '', finalizers = [] } = object.metadata ?? {};
    const node = (object as V1Pod).spec?.nodeName;
    const holders = [
      ...(finalizers.length > 0 ? [`finalizers ${finalizers.join(', ')}`] : []),
      ...(node === undefined ? [] : [`on the node ${node}`]),
    ];
    return `${name}${holders.length > 0 ? ` (${holders.join('; ')})` : ''}`;
  });
  const reason = `still there after ${overdueMs} ms: ${names.join(', ')}`;
  return new OrchestratorUnavailable(ENGINE, reason, undefined, 'has not finished a deletion');
}
