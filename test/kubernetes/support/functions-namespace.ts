import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { KubeConfig, type KubernetesObject, loadAllYaml } from '@kubernetes/client-node';
import { ClusterObjects } from './cluster-objects.js';

const POLICY = 'pod-security.kubernetes.io/enforce';

/** A namespace of its own for functions, with what k8s/functions puts there. */
export class FunctionsNamespace extends ClusterObjects {
  constructor(admin: KubeConfig) {
    super(admin, `faas-test-${randomBytes(4).toString('hex')}`);
  }

  async install(annotations: Readonly<Record<string, string>> = {}): Promise<void> {
    const { core, objects, namespace } = this;
    const metadata = { name: namespace, labels: { [POLICY]: 'restricted' }, annotations };
    await core.createNamespace({ body: { metadata } });
    for (const name of ['faas-worker', 'faas-manager']) {
      await core.createNamespacedServiceAccount({ namespace, body: { metadata: { name } } });
    }
    for (const file of ['role.yaml', 'role-binding.yaml', 'pool.yaml']) {
      for (const object of loadAllYaml(readFileSync(resolve('k8s/functions', file), 'utf8')) as KubernetesObject[]) {
        await objects.create(this.inNamespace(object));
      }
    }
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

  private inNamespace(object: KubernetesObject): KubernetesObject {
    const subjects = (object as { subjects?: { namespace?: string }[] }).subjects;
    for (const subject of subjects ?? []) subject.namespace = this.namespace;
    return { ...object, metadata: { ...object.metadata, namespace: this.namespace } };
  }
}
