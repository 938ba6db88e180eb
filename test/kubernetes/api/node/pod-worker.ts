import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Cluster } from '../cluster.js';
import type { Pod } from '../controllers/types.js';
import { list } from '../rules/fields.js';
import { PODS } from '../rest/resources.js';
import { clone, timestamp } from '../store/objects.js';
import { Container, type NodeSettings } from './container.js';
import { podStatus } from './pod-status.js';

/** One pod on this node, from its first container to its last. */
export class PodWorker {
  readonly containers: readonly Container[];
  private readonly cluster: Cluster;
  private readonly pod: Pod;
  private readonly node: NodeSettings;
  private readonly address: string;
  private readonly startTime = timestamp();
  private ending: Promise<void> | undefined;
  private deadline: number | undefined;

  constructor(cluster: Cluster, pod: Pod, address: string, node: NodeSettings) {
    this.cluster = cluster;
    this.pod = pod;
    this.address = address;
    this.node = node;
    const specs = list(pod.spec.containers);
    this.containers = specs.map((spec) => new Container(pod, spec, address, node, () => this.report()));
  }

  start(): void {
    this.report();
    for (const container of this.containers) void container.start();
  }

  /** May be told again, with less time. */
  end(graceSeconds: number): void {
    const deadline = Date.now() + graceSeconds * 1000;
    if (this.deadline !== undefined && this.deadline <= deadline) return;
    this.deadline = deadline;
    const stopped = Promise.all(this.containers.map((container) => container.stop(graceSeconds * 1000)));
    this.ending ??= stopped.then(() => this.finish());
  }

  /** The node stops: nothing is reported any more. */
  async abort(): Promise<void> {
    await Promise.all(this.containers.map((container) => container.stop(0)));
    await this.removeFiles();
  }

  private async finish(): Promise<void> {
    await this.removeFiles();
    const current = this.current();
    if (current === undefined) return;
    // The node confirms that nothing runs any more: only now may the object go.
    const next = clone(current);
    next.metadata.deletionGracePeriodSeconds = 0;
    const stored = this.cluster.store.replace(PODS.key, next, current);
    this.cluster.removeIfDone(PODS, stored);
  }

  private removeFiles(): Promise<void> {
    return rm(join(this.node.folder, this.pod.metadata.uid), { recursive: true, force: true });
  }

  private current(): Pod | undefined {
    const { namespace, name, uid } = this.pod.metadata;
    const found = this.cluster.store.get(PODS.key, namespace, name) as Pod | undefined;
    return found?.metadata.uid === uid ? found : undefined;
  }

  private report(): void {
    const current = this.current();
    if (current === undefined) return;
    const views = this.containers.map(({ view }) => view);
    this.cluster.setStatus(PODS, current, podStatus(current, this.address, this.startTime, views));
  }
}
