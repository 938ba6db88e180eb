import { PodSite, type PodSiteOptions } from '../../crash/support/pod-site.js';
import type { WorkerView } from '../../crash/support/site.js';
import { type Namespace, openNamespace } from './room.js';

/** A namespace of the real cluster. */
export class KubernetesSite extends PodSite {
  readonly engine = 'kubernetes';

  private constructor(
    private readonly namespace: Namespace,
    options: PodSiteOptions,
  ) {
    super(namespace, options);
  }

  static async open(options: PodSiteOptions): Promise<KubernetesSite> {
    const namespace = await openNamespace();
    // Its pod starts before any of the managers', so that a round needn't wait for it.
    if (options.hasPool) await namespace.cluster.reaper();
    return new KubernetesSite(namespace, options);
  }

  protected async killWaiting(_pod: string, containerId: string): Promise<void> {
    if (containerId !== '') await (await this.namespace.cluster.reaper()).kill(containerId);
  }

  protected async killServing({ functionId }: WorkerView): Promise<void> {
    await this.namespace.cluster.endPods(functionId);
  }
}
