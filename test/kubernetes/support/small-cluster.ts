import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CoreV1Api, KubeConfig } from '@kubernetes/client-node';
import type { KubernetesConfig } from '#libs/config/config.js';
import { loadConfig } from '#libs/config/load-config.js';
import type { ApiOptions } from '../api/options.js';
import { type KubernetesApi, start } from '../api/start.js';

const IMAGE = 'faas-worker:local';

/** The small Kubernetes of these tests with what k8s/functions puts there, and a manager's way to it. */
export class SmallCluster {
  private constructor(
    readonly api: KubernetesApi,
    private readonly folder: string,
  ) {}

  static async open(options: ApiOptions = {}, begin: typeof start = start): Promise<SmallCluster> {
    const cluster = new SmallCluster(await begin(options), mkdtempSync(join(tmpdir(), 'faas-kubeconfig-')));
    writeFileSync(cluster.kubeconfig, cluster.api.kubeconfig('manager'), { mode: 0o600 });
    const { namespace } = cluster.api;
    await cluster.core.createNamespacedServiceAccount({ namespace, body: { metadata: { name: 'faas-worker' } } });
    return cluster;
  }

  get kubeconfig(): string {
    return join(this.folder, 'config');
  }

  get core(): CoreV1Api {
    const admin = new KubeConfig();
    admin.loadFromString(this.api.kubeconfig('admin'));
    return admin.makeApiClient(CoreV1Api);
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
