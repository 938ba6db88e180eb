import { rm } from 'node:fs/promises';
import type { Cluster } from '../cluster.js';
import type { Pod } from '../controllers/types.js';
import { PODS } from '../rest/resources.js';
import { isLeaving } from '../store/objects.js';
import type { Change } from '../store/store.js';
import type { Addresses } from './addresses.js';
import type { Container, NodeSettings } from './container.js';
import { PodWorker } from './pod-worker.js';

const PORT = 8000;

/** Runs the pods that the scheduler gave to the node, each at an address of its own. */
export class Kubelet {
  private readonly workers = new Map<string, PodWorker>();
  private readonly known = new Set<string>();
  private readonly cluster: Cluster;
  private readonly addresses: Addresses;
  private readonly node: NodeSettings;
  private stopped = false;

  constructor(cluster: Cluster, addresses: Addresses, node: NodeSettings) {
    this.cluster = cluster;
    this.addresses = addresses;
    this.node = node;
  }

  onChange({ resource, type, object }: Change): void {
    if (resource !== PODS.key || this.stopped) return;
    const pod = object as Pod;
    const { uid, deletionGracePeriodSeconds = 0 } = pod.metadata;
    if (type === 'DELETED') {
      this.workers.get(uid)?.end(0);
      this.workers.delete(uid);
      return;
    }
    if (pod.spec.nodeName === undefined) return;
    if (isLeaving(pod)) {
      const worker = this.workers.get(uid);
      if (worker !== undefined) worker.end(deletionGracePeriodSeconds);
      return;
    }
    if (!this.known.has(uid)) this.start(pod);
  }

  containersOf(pod: Pod): readonly Container[] {
    return this.workers.get(pod.metadata.uid)?.containers ?? [];
  }

  /** By the id of its container, with or without `containerd://`, or by the pod's name. */
  find(which: string): Container[] {
    const id = which.replace(/^containerd:\/\//, '');
    const pods = (this.cluster.store.list(PODS.key) as Pod[]).filter((pod) => this.workers.has(pod.metadata.uid));
    return pods.flatMap((pod) => {
      const containers = this.containersOf(pod);
      return pod.metadata.name === which
        ? containers
        : containers.filter(({ view }) => view.containerID === `containerd://${id}`);
    });
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await Promise.all([...this.workers.values()].map((worker) => worker.abort()));
    await rm(this.node.folder, { recursive: true, force: true });
  }

  private start(pod: Pod): void {
    const { uid } = pod.metadata;
    this.known.add(uid);
    void this.addresses.nextFree(PORT).then((address) => {
      const current = this.cluster.store.get(PODS.key, pod.metadata.namespace, pod.metadata.name) as Pod | undefined;
      if (this.stopped || current?.metadata.uid !== uid) return;
      const worker = new PodWorker(this.cluster, current, address, this.node);
      this.workers.set(uid, worker);
      if (isLeaving(current)) worker.end(current.metadata.deletionGracePeriodSeconds ?? 0);
      else worker.start();
    });
  }
}
