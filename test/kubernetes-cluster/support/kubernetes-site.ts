import type { V1Pod } from '@kubernetes/client-node';
import { POD } from '#libs/orchestrator-kubernetes/kinds.js';
import { LABEL } from '#libs/orchestrator-kubernetes/labels.js';
import type { CrashSite, WorkerView } from '../../crash/support/site.js';
import { type Namespace, openNamespace } from './room.js';

/** Workers as pods of a namespace that belongs to the suite alone: whatever has our label there is the managers' doing. */
export class KubernetesSite implements CrashSite {
  readonly engine = 'kubernetes';
  readonly env: Readonly<Record<string, string>>;

  private constructor(
    private readonly room: Namespace,
    env: Readonly<Record<string, string>>,
  ) {
    this.env = { ...room.env, ...env };
  }

  static async open(env: Readonly<Record<string, string>> = {}): Promise<KubernetesSite> {
    return new KubernetesSite(await openNamespace(), env);
  }

  async workers(): Promise<WorkerView[]> {
    const pods = (await this.room.cluster.ours(POD)) as V1Pod[];
    return pods
      .filter(({ metadata }) => metadata?.deletionTimestamp === undefined)
      .map(({ metadata, status }) => ({
        functionId: metadata?.labels?.[LABEL.functionId] ?? '',
        replica: `${metadata?.name}/${status?.containerStatuses?.[0]?.containerID ?? ''}`,
        pid: 0,
        runners: undefined,
      }));
  }

  leaks(functionIds: ReadonlySet<string>): Promise<string[]> {
    return this.room.cluster.leftovers([...functionIds]);
  }

  async kill({ functionId }: WorkerView): Promise<void> {
    await this.room.cluster.endPods(functionId);
  }

  close(): Promise<void> {
    return this.room.clear();
  }
}
