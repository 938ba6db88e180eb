import { podOf } from '#libs/orchestrator-kubernetes/replica.js';
import { startProcess } from '../../kubernetes/api/start-process.js';
import { openSmallRoom, type SmallRoom } from '../../kubernetes/support/small-room.js';
import type { BuildCopy } from './build-copy.js';
import { podWorkers } from './pod-site.js';
import type { CrashSite, EngineDaemon, WorkerView } from './site.js';

/** The small Kubernetes as a process that outlives the managers; its API server can be away while its pods go on. */
export class SmallKubernetesSite implements CrashSite {
  readonly engine = 'small kubernetes';

  private constructor(private readonly room: SmallRoom) {}

  static async open(_folder: string, { workerDir }: BuildCopy): Promise<SmallKubernetesSite> {
    return new SmallKubernetesSite(await openSmallRoom({ image: { workerDir } }, startProcess));
  }

  get env(): Readonly<Record<string, string>> {
    return this.room.env;
  }

  workers(): Promise<WorkerView[]> {
    return podWorkers(this.room.cluster);
  }

  leaks(functionIds: ReadonlySet<string>): Promise<string[]> {
    return this.room.cluster.leftovers([...functionIds]);
  }

  async kill({ replica }: WorkerView): Promise<void> {
    await this.controls.kill(podOf(replica));
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
      for (const worker of await this.workers()) await this.kill(worker);
    },
  };

  close(): Promise<void> {
    return this.room.clear();
  }

  private get controls(): SmallRoom['cluster']['api']['controls'] {
    return this.room.cluster.api.controls;
  }
}
