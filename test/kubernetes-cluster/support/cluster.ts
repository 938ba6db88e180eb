import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import {
  CoreV1Api,
  KubeConfig,
  type KubernetesObject,
  KubernetesObjectApi,
  loadAllYaml,
  PatchStrategy,
} from '@kubernetes/client-node';
import { type Kind, OWNED, POD } from '#libs/orchestrator-kubernetes/kinds.js';
import { LABEL } from '#libs/orchestrator-kubernetes/labels.js';
import { expect, vi } from 'vitest';
import { CLUSTER_IMAGES } from './images.js';
import { NodeReaper } from './node-reaper.js';

const POLICY = 'pod-security.kubernetes.io/enforce';
const GONE_MS = 90_000;
const REPLICA_SET: Kind = { kind: 'ReplicaSet', apiVersion: 'apps/v1', plural: 'replicasets' };

/** The cluster that `KUBECONFIG` names, and one namespace of it for functions, which ends with the suite. */
export class TestCluster {
  readonly admin = new KubeConfig();
  readonly objects: KubernetesObjectApi;
  readonly core: CoreV1Api;
  readonly namespace = `faas-test-${randomBytes(4).toString('hex')}`;

  private reaping: Promise<NodeReaper> | undefined;

  private constructor() {
    this.admin.loadFromDefault();
    this.objects = KubernetesObjectApi.makeApiClient(this.admin);
    this.core = this.admin.makeApiClient(CoreV1Api);
  }

  static async open(): Promise<TestCluster> {
    const cluster = new TestCluster();
    await cluster.core.createNamespace({
      body: { metadata: { name: cluster.namespace, labels: { [POLICY]: 'restricted' } } },
    });
    for (const name of ['faas-worker', 'faas-manager']) {
      await cluster.core.createNamespacedServiceAccount({ namespace: cluster.namespace, body: { metadata: { name } } });
    }
    for (const file of ['role.yaml', 'role-binding.yaml']) {
      for (const object of loadAllYaml(readFileSync(resolve('k8s/functions', file), 'utf8')) as KubernetesObject[]) {
        await cluster.objects.create(cluster.inNamespace(object));
      }
    }
    return cluster;
  }

  /** What a manager in the cluster is: its ServiceAccount, with the rights of k8s/functions and no others. */
  async managerConfig(): Promise<string> {
    const body = { spec: { audiences: [], expirationSeconds: 7200 } };
    const { status } = await this.core.createNamespacedServiceAccountToken({
      name: 'faas-manager',
      namespace: this.namespace,
      body,
    });
    const config = new KubeConfig();
    config.loadFromClusterAndUser(this.admin.getCurrentCluster()!, { name: 'manager', token: status?.token });
    return config.exportConfig();
  }

  /** Kills workers from outside of them. */
  reaper(): Promise<NodeReaper> {
    return (this.reaping ??= NodeReaper.start(this.admin, this.core, `${this.namespace}-host`, CLUSTER_IMAGES.worker));
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

  async close(): Promise<void> {
    await (await this.reaping)?.close();
    await this.core.deleteNamespace({ name: this.namespace });
    await vi.waitFor(
      async () => {
        const { items } = await this.core.listNamespace();
        if (items.some(({ metadata }) => metadata?.name === this.namespace)) throw new Error('The namespace is there.');
      },
      { timeout: GONE_MS, interval: 500 },
    );
  }

  private inNamespace(object: KubernetesObject): KubernetesObject {
    const subjects = (object as { subjects?: { namespace?: string }[] }).subjects;
    for (const subject of subjects ?? []) subject.namespace = this.namespace;
    return { ...object, metadata: { ...object.metadata, namespace: this.namespace } };
  }
}
