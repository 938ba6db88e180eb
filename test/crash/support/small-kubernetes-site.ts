import { podOf } from '#libs/orchestrator-kubernetes/replica.js';
import { openSmallRoom, type SmallRoom } from '../../kubernetes/support/small-room.js';
import { podsOfBuilds } from '../../support/layers.js';
import type { BuildCopy } from './build-copy.js';
import { PodSite, type PodSiteOptions } from './pod-site.js';
import type { Builds, WorkerView } from './site.js';

/** A namespace of the control plane that this machine runs, with pods that are its processes. */
export class SmallKubernetesSite extends PodSite {
  readonly engine = 'small kubernetes';
  readonly builds: Builds = {
    indexHost: '127.0.0.1',
    kill: async () => {
      for (const pod of await podsOfBuilds(this.small)) await this.small.cluster.node.kill(pod);
    },
  };

  private constructor(
    private readonly small: SmallRoom,
    options: PodSiteOptions,
  ) {
    super(small, small.cluster.proxy, options);
  }

  static async open({ workerDir }: BuildCopy, options: PodSiteOptions): Promise<SmallKubernetesSite> {
    return new SmallKubernetesSite(await openSmallRoom({ image: { workerDir } }), options);
  }

  protected async killWaiting(pod: string): Promise<void> {
    await this.small.cluster.node.kill(pod);
  }

  protected async killServing({ replica }: WorkerView): Promise<void> {
    await this.small.cluster.node.kill(podOf(replica));
  }
}
