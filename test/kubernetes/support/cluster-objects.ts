import {
  CoreV1Api,
  type KubeConfig,
  type KubernetesObject,
  KubernetesObjectApi,
  PatchStrategy,
} from '@kubernetes/client-node';
import { expect, vi } from 'vitest';
import { type Kind, OWNED, POD } from '#libs/orchestrator-kubernetes/kinds.js';
import { LABEL } from '#libs/orchestrator-kubernetes/labels.js';

const GONE_MS = 90_000;
const REPLICA_SET: Kind = { kind: 'ReplicaSet', apiVersion: 'apps/v1', plural: 'replicasets' };

/** One namespace of a cluster, real or small, as its administrator sees and changes it past the managers. */
export class ClusterObjects {
  readonly objects: KubernetesObjectApi;
  readonly core: CoreV1Api;

  constructor(
    readonly admin: KubeConfig,
    readonly namespace: string,
  ) {
    this.objects = KubernetesObjectApi.makeApiClient(admin);
    this.core = admin.makeApiClient(CoreV1Api);
  }

  /** All objects of a kind that a manager made here. */
  async ours(kind: Kind): Promise<KubernetesObject[]> {
    const { items } = await this.objects.list(
      kind.apiVersion,
      kind.kind,
      this.namespace,
      undefined,
      undefined,
      undefined,
      undefined,
      LABEL.owner,
    );
    return items;
  }

  /** One function's pods. */
  async of(functionId: string): Promise<KubernetesObject[]> {
    return (await this.ours(POD)).filter(({ metadata }) => metadata?.labels?.[LABEL.functionId] === functionId);
  }

  get({ apiVersion, kind }: Kind, name: string): Promise<KubernetesObject> {
    return this.objects.read({ apiVersion, kind, metadata: { name, namespace: this.namespace } });
  }

  /** As `kubectl patch` does it by hand. */
  async merge({ apiVersion, kind }: Kind, name: string, change: { metadata?: object; spec?: object }): Promise<void> {
    const metadata = { ...change.metadata, name, namespace: this.namespace };
    const patch = { apiVersion, kind, ...change, metadata };
    await this.objects.patch(patch, undefined, undefined, 'somebody', undefined, PatchStrategy.MergePatch);
  }

  async delete({ apiVersion, kind }: Kind, name: string): Promise<void> {
    await this.objects.delete({ apiVersion, kind, metadata: { name, namespace: this.namespace } });
  }

  async gone(kind: Kind, name: string): Promise<void> {
    const timeout = { timeout: GONE_MS, interval: 200 };
    await vi.waitFor(() => expect(this.get(kind, name)).rejects.toMatchObject({ code: 404 }), timeout);
  }

  /** What managers made and have not removed, but the function's objects with these ids. */
  async leftovers(functionIds: readonly string[] = []): Promise<string[]> {
    const found = await Promise.all(
      [...OWNED, POD, REPLICA_SET].map(async (kind) => ({ kind, objects: await this.ours(kind) })),
    );
    return found.flatMap(({ kind, objects }) =>
      objects
        .filter(({ metadata }) => !functionIds.includes(metadata?.labels?.[LABEL.functionId] ?? ''))
        .map(({ metadata }) => `${kind.kind} ${metadata?.name}`),
    );
  }

  /** As a node that dies does it: without their grace. */
  async endPods(functionId: string): Promise<void> {
    const labelSelector = `${LABEL.functionId}=${functionId}`;
    await this.core.deleteCollectionNamespacedPod({ namespace: this.namespace, labelSelector, gracePeriodSeconds: 0 });
  }

  async evict(name: string): Promise<void> {
    await this.core.createNamespacedPodEviction({ name, namespace: this.namespace, body: { metadata: { name } } });
  }
}
