import type { Cluster } from '../cluster.js';
import { isFinished, usage } from '../rules/admission.js';
import { quantity } from '../rules/quantity.js';
import { PODS } from '../rest/resources.js';
import { clone, isLeaving, timestamp } from '../store/objects.js';
import type { Change } from '../store/store.js';
import { keyOf, Queue, splitKey } from './queue.js';
import { type Condition, conditionOf, type Pod } from './types.js';

export const NODE_NAME = 'node1';

/** What the one node has, as quantities: `{ cpu: '16', memory: '64Gi', pods: '110' }`. */
export interface Capacity {
  readonly cpu: string;
  readonly memory: string;
  readonly pods: string;
}

const NEEDS = [
  ['cpu', 'requests.cpu', 'Insufficient cpu'],
  ['memory', 'requests.memory', 'Insufficient memory'],
  ['pods', 'pods', 'Too many pods'],
] as const;

/** Puts pods on the one node while they fit. */
export class Scheduler {
  private readonly cluster: Cluster;
  private readonly capacity: Capacity;
  private readonly queue = new Queue((key) => this.reconcile(key));

  constructor(cluster: Cluster, capacity: Capacity) {
    this.cluster = cluster;
    this.capacity = capacity;
  }

  onChange({ resource, type, object }: Change): void {
    if (resource !== PODS.key) return;
    const pod = object as Pod;
    if (type === 'ADDED') this.queue.add(keyOf(pod));
    else if (type === 'DELETED' || isFinished(pod)) this.tryWaiting();
  }

  close(): void {
    this.queue.close();
  }

  private tryWaiting(): void {
    for (const pod of this.pods()) if (pod.spec.nodeName === undefined) this.queue.add(keyOf(pod));
  }

  private pods(): Pod[] {
    return this.cluster.store.list(PODS.key) as Pod[];
  }

  private reconcile(key: string): void {
    const [namespace, name] = splitKey(key);
    const pod = this.cluster.store.get(PODS.key, namespace, name) as Pod | undefined;
    if (pod === undefined || pod.spec.nodeName !== undefined || isLeaving(pod)) return;
    const placed = this.pods().filter((other) => other.spec.nodeName !== undefined && !isFinished(other));
    const lacking = NEEDS.filter(([resource, use]) => {
      const used = placed.reduce((sum, other) => sum + (usage(other, use) ?? 0), 0);
      return used + (usage(pod, use) ?? 0) > (quantity(this.capacity[resource]) ?? 0);
    });
    if (lacking.length > 0) return this.refuse(pod, lacking.map(([, , reason]) => `1 ${reason}`).join(', '));
    // A binding is no change of the spec that counts as a generation.
    const bound = clone(pod);
    bound.spec.nodeName = NODE_NAME;
    bound.status = { ...pod.status, conditions: [scheduled('True')] };
    this.cluster.store.replace(PODS.key, bound, pod);
  }

  private refuse(pod: Pod, why: string): void {
    const message = `0/1 nodes are available: ${why}. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.`;
    if (conditionOf(pod, 'PodScheduled')?.message === message) return;
    const condition = scheduled('False', { reason: 'Unschedulable', message });
    this.cluster.setStatus(PODS, pod, { ...pod.status, phase: 'Pending', conditions: [condition] });
  }
}

function scheduled(status: Condition['status'], why: object = {}): Condition {
  const times = { lastProbeTime: null, lastTransitionTime: timestamp() };
  return { type: 'PodScheduled', status, ...times, ...why };
}
