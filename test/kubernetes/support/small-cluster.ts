import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';
import type { KubernetesConfig } from '#libs/config/config.js';
import { loadConfig } from '#libs/config/load-config.js';
import { controlPlane } from '../control-plane/shared.js';
import { type NodeOptions, VirtualNode } from '../node/node.js';
import { ApiProxy } from './api-proxy.js';
import { FunctionsNamespace } from './functions-namespace.js';
import { LayersService } from './layers-service.js';
import { policy, type Refused } from './policy.js';

const IMAGE = 'faas-worker:local';

/**
 * A namespace of the run's control plane, with a node that runs its pods as processes of this machine, and a manager's
 * way to it.
 */
export class SmallCluster extends FunctionsNamespace {
  node!: VirtualNode;
  /** What is between managers and the API server. */
  proxy!: ApiProxy;
  /** Between pods and the managers that serve them layers. */
  layers!: LayersService;
  private readonly folder = mkdtempSync(join(tmpdir(), 'faas-kubeconfig-'));
  private readonly policies: AsyncDisposable[] = [];
  private readonly volumes: string[] = [];
  private files = 0;

  static async open(options: NodeOptions = {}): Promise<SmallCluster> {
    const { kubeconfig, certificate, addresses } = await controlPlane();
    const admin = new KubeConfig();
    admin.loadFromString(kubeconfig);
    const cluster = new SmallCluster(admin);
    const name = cluster.namespace;
    cluster.layers = await LayersService.open();
    cluster.proxy = await ApiProxy.to(admin.getCurrentCluster()!);
    cluster.node = await VirtualNode.start({ name, admin, certificate, addresses }, options);
    await cluster.install({ 'scheduler.alpha.kubernetes.io/node-selector': `kubernetes.io/hostname=${name}` });
    const manager = cluster.proxy.through(await cluster.managerConfig());
    writeFileSync(cluster.kubeconfig, manager, { mode: 0o600 });
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

  /** What makes a manager use it. */
  get env(): Readonly<Record<string, string>> {
    return {
      KUBECONFIG: this.kubeconfig,
      KUBERNETES_NAMESPACE: this.namespace,
      KUBERNETES_REACH: 'pod',
      WORKER_IMAGE: IMAGE,
      LAYERS_URL: this.layers.url,
      // Each manager has one of its own.
      LAYERS_ADDR: this.layers.nextAddress(),
    };
  }

  configOf(env: Readonly<Record<string, string>> = {}): KubernetesConfig {
    return loadConfig({ ...this.env, ...env }).orchestrator.kubernetes;
  }

  /** A bound claim of the namespace, which the node keeps in a folder: answers which. Nobody else here binds claims. */
  async claim(name: string): Promise<string> {
    const { core, namespace } = this;
    const size = { storage: '1Gi' };
    const shared = { accessModes: ['ReadWriteMany'], storageClassName: '' };
    const volume = { name: `${namespace}-${name}` };
    const bound = { name, annotations: { 'pv.kubernetes.io/bind-completed': 'yes' } };
    await core.createPersistentVolume({
      body: {
        metadata: volume,
        spec: { ...shared, capacity: size, claimRef: { namespace, name }, hostPath: { path: '/nowhere' } },
      },
    });
    this.volumes.push(volume.name);
    const spec = { ...shared, volumeName: volume.name, resources: { requests: size } };
    await core.createNamespacedPersistentVolumeClaim({ namespace, body: { metadata: bound, spec } });
    // Nor would anybody let go of them.
    const body = [{ op: 'remove', path: '/metadata/finalizers' }];
    await core.patchPersistentVolume({ ...volume, body });
    await core.patchNamespacedPersistentVolumeClaim({ namespace, name, body });
    return this.node.claimFolder(namespace, name);
  }

  /** The API server refuses such changes, until `admitAll`. */
  async refuse(refused: Refused, message: string): Promise<void> {
    this.policies.push(await policy(this, refused, message));
  }

  async admitAll(): Promise<void> {
    for (const one of this.policies.splice(0)) await one[Symbol.asyncDispose]();
  }

  /** Watches that are asked for from where others ended until now are told that it is too long ago. */
  async expireWatches(): Promise<void> {
    const { metadata } = await this.core.listNamespace({ limit: 1 });
    this.proxy.expire(metadata?.resourceVersion ?? '');
  }

  async close(): Promise<void> {
    await this.admitAll();
    await this.proxy.cut();
    this.layers.close();
    await this.core.deleteNamespace({ name: this.namespace });
    await this.core.deleteCollectionNamespacedPod({ namespace: this.namespace, gracePeriodSeconds: 0 });
    for (const name of this.volumes) await this.core.deletePersistentVolume({ name });
    await this.node.stop();
    rmSync(this.folder, { recursive: true });
  }
}
