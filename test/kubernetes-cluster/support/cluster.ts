import { KubeConfig } from '@kubernetes/client-node';
import { vi } from 'vitest';
import { FunctionsNamespace } from '../../kubernetes/support/functions-namespace.js';
import { CLUSTER_IMAGES } from './images.js';
import { NodeReaper } from './node-reaper.js';

const GONE_MS = 90_000;

/** The cluster that `KUBECONFIG` names, and one namespace of it for functions, which ends with the suite. */
export class TestCluster extends FunctionsNamespace {
  private reaping: Promise<NodeReaper> | undefined;

  static async open(): Promise<TestCluster> {
    const admin = new KubeConfig();
    admin.loadFromDefault();
    const cluster = new TestCluster(admin);
    await cluster.install();
    return cluster;
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
}
