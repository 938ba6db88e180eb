import { podOf } from '#libs/orchestrator-kubernetes/replica.js';
import { startProcess } from '../../kubernetes/api/start-process.js';
import { openSmallRoom, type SmallRoom } from '../../kubernetes/support/small-room.js';
import type { BuildCopy } from './build-copy.js';
import { PodSite, type PodSiteOptions } from './pod-site.js';
import type { EngineDaemon, WorkerView } from './site.js';

/** The small Kubernetes as a process that outlives the managers; its API server can be away while its pods go on. */
export class SmallKubernetesSite extends PodSite {
  readonly engine = 'small kubernetes';

  private constructor(
    private readonly small: SmallRoom,
    options: PodSiteOptions,
  ) {
    super(small, options);
  }

  static async open({ workerDir }: BuildCopy, options: PodSiteOptions): Promise<SmallKubernetesSite> {
    return new SmallKubernetesSite(await openSmallRoom({ image: { workerDir } }, startProcess), options);
  }

  async cutWatches(): Promise<void> {
    await this.controls.dropWatches();
  }

  /** Where workers don't live on, the node is taken to have gone down with the API server. */
  readonly daemon: EngineDaemon = {
    kill: () => this.controls.down(),
    restart: async (keepWorkers) => {
      await this.controls.up();
      if (keepWorkers) return;
      const waiting = (await this.pool?.waiting()) ?? [];
      for (const { replica } of [...(await this.workers()), ...waiting]) await this.controls.kill(podOf(replica));
    },
  };

  protected async killWaiting(pod: string): Promise<void> {
    await this.controls.kill(pod);
  }

  protected async killServing({ replica }: WorkerView): Promise<void> {
    await this.controls.kill(podOf(replica));
  }

  private get controls(): SmallRoom['cluster']['api']['controls'] {
    return this.small.cluster.api.controls;
  }
}
