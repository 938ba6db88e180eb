import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { KubeConfig, type KubernetesObject, loadAllYaml } from '@kubernetes/client-node';
import { vi } from 'vitest';
import { ClusterObjects } from '../../kubernetes/support/cluster-objects.js';
import { CLUSTER_IMAGES } from './images.js';
import { NodeReaper } from './node-reaper.js';

const POLICY = 'pod-security.kubernetes.io/enforce';
const GONE_MS = 90_000;

/** The cluster that `KUBECONFIG` names, and one namespace of it for functions, which ends with the suite. */
export class TestCluster extends ClusterObjects {
  private reaping: Promise<NodeReaper> | undefined;

  static async open(): Promise<TestCluster> {
    const admin = new KubeConfig();
    admin.loadFromDefault();
    const cluster = new TestCluster(admin, `faas-test-${randomBytes(4).toString('hex')}`);
    await cluster.core.createNamespace({
      body: { metadata: { name: cluster.namespace, labels: { [POLICY]: 'restricted' } } },
    });
    for (const name of ['faas-worker', 'faas-manager']) {
      await cluster.core.createNamespacedServiceAccount({ namespace: cluster.namespace, body: { metadata: { name } } });
    }
    for (const file of ['role.yaml', 'role-binding.yaml', 'pool.yaml']) {
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
