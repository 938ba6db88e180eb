import { podOf } from '#libs/orchestrator-kubernetes/replica.js';
import { openSmallRoom, type SmallRoom } from '../../kubernetes/support/small-room.js';
import { podsOfBuilds } from '../../support/layers.js';
import type { BuildCopy } from './build-copy.js';
import { PodSite, type PodSiteOptions } from './pod-site.js';
import type { Builds, EngineDaemon, WorkerView } from './site.js';

/** A small cluster outlives the managers; its API server can be away from them while its pods go on. */
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
    super(small, options);
  }

  static async open({ workerDir }: BuildCopy, options: PodSiteOptions): Promise<SmallKubernetesSite> {
    return new SmallKubernetesSite(await openSmallRoom({ image: { workerDir } }), options);
  }

  async cutWatches(): Promise<void> {
    this.small.cluster.proxy.dropWatches();
  }

  /** Where workers don't live on, the node is taken to have gone down with the API server. */
  readonly daemon: EngineDaemon = {
    kill: () => this.small.cluster.proxy.cut(),
    restart: async (keepWorkers) => {
      await this.small.cluster.proxy.mend();
      if (keepWorkers) return;
      const waiting = (await this.pool?.waiting()) ?? [];
      for (const { replica } of [...(await this.workers()), ...waiting])
        await this.small.cluster.node.kill(podOf(replica));
    },
  };

  protected async killWaiting(pod: string): Promise<void> {
    await this.small.cluster.node.kill(pod);
  }

  protected async killServing({ replica }: WorkerView): Promise<void> {
    await this.small.cluster.node.kill(podOf(replica));
  }
}
