import { podWorkers } from '../../crash/support/pod-site.js';
import type { CrashSite, WorkerView } from '../../crash/support/site.js';
import { type Namespace, openNamespace } from './room.js';

/** A namespace of the real cluster. */
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

  workers(): Promise<WorkerView[]> {
    return podWorkers(this.room.cluster);
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
