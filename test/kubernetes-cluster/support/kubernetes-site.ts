import { PodSite, type PodSiteOptions } from '../../crash/support/pod-site.js';
import type { WorkerView } from '../../crash/support/site.js';
import { ApiProxy } from '../../kubernetes/support/api-proxy.js';
import { type Namespace, openNamespace } from './room.js';

/** A namespace of the real cluster. */
export class KubernetesSite extends PodSite {
  readonly engine = 'kubernetes';

  private constructor(
    private readonly namespace: Namespace,
    proxy: ApiProxy,
    options: PodSiteOptions,
  ) {
    super(namespace, proxy, options);
  }

  static async open(options: PodSiteOptions): Promise<KubernetesSite> {
    const namespace = await openNamespace();
    // Its pod starts before any of the managers', so that a round needn't wait for it.
    if (options.hasPool) await namespace.cluster.reaper();
    const { cluster, kubeconfig } = namespace;
    const proxy = await ApiProxy.to(cluster.admin.getCurrentCluster()!);
    const KUBECONFIG = await kubeconfig(proxy.through(await cluster.managerConfig()));
    return new KubernetesSite(namespace, proxy, { ...options, env: { ...options.env, KUBECONFIG } });
  }

  protected async killWaiting(_pod: string, containerId: string): Promise<void> {
    if (containerId !== '') await (await this.namespace.cluster.reaper()).kill(containerId);
  }

  protected async killServing({ functionId }: WorkerView): Promise<void> {
    await this.namespace.cluster.endPods(functionId);
  }
}
