import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';
import type { KubernetesConfig } from '#libs/config/config.js';
import { loadConfig } from '#libs/config/load-config.js';
import type { ApiOptions } from '../api/options.js';
import { type KubernetesApi, start } from '../api/start.js';
import { ClusterObjects } from './cluster-objects.js';

const IMAGE = 'faas-worker:local';

/** The small Kubernetes of these tests with what k8s/functions puts there, and a manager's way to it. */
export class SmallCluster extends ClusterObjects {
  private files = 0;

  private constructor(
    readonly api: KubernetesApi,
    admin: KubeConfig,
    private readonly folder: string,
  ) {
    super(admin, api.namespace);
  }

  static async open(options: ApiOptions = {}, begin: typeof start = start): Promise<SmallCluster> {
    const api = await begin(options);
    const admin = new KubeConfig();
    admin.loadFromString(api.kubeconfig('admin'));
    const cluster = new SmallCluster(api, admin, mkdtempSync(join(tmpdir(), 'faas-kubeconfig-')));
    writeFileSync(cluster.kubeconfig, api.kubeconfig('manager'), { mode: 0o600 });
    const { namespace } = api;
    await cluster.core.createNamespacedServiceAccount({ namespace, body: { metadata: { name: 'faas-worker' } } });
    await cluster.core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'faas-pool' } } });
    return cluster;
  }

  get kubeconfig(): string {
    return join(this.folder, 'config');
  }

  /** Writes a kubeconfig that goes with the cluster, and answers where to. */
  writeKubeconfig(content: string): string {
    const path = join(this.folder, `config-${(this.files += 1)}`);
    writeFileSync(path, content, { mode: 0o600 });
    return path;
  }

  managerConfig(): Promise<string> {
    return Promise.resolve(this.api.kubeconfig('manager'));
  }

  /** What makes a manager use it. */
  get env(): Readonly<Record<string, string>> {
    return {
      KUBECONFIG: this.kubeconfig,
      KUBERNETES_NAMESPACE: this.api.namespace,
      KUBERNETES_REACH: 'pod',
      WORKER_IMAGE: IMAGE,
    };
  }

  configOf(env: Readonly<Record<string, string>> = {}): KubernetesConfig {
    return loadConfig({ ...this.env, ...env }).orchestrator.kubernetes;
  }

  async close(): Promise<void> {
    await this.api.stop();
    rmSync(this.folder, { recursive: true });
  }
}
