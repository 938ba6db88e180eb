import type { Cluster, DeleteOptions } from '../cluster.js';
import type { Pod } from '../controllers/types.js';
import { timestamp } from '../store/objects.js';
import { PODS } from './resources.js';

/** What draining a node does to a pod: it is told why, and leaves as if deleted. */
export function evict(
  cluster: Cluster,
  namespace: string | undefined,
  name: string,
  options: DeleteOptions = {},
): void {
  const pod = cluster.get(PODS, namespace, name) as Pod;
  const condition = {
    type: 'DisruptionTarget',
    status: 'True',
    lastProbeTime: null,
    lastTransitionTime: timestamp(),
    reason: 'EvictionByEvictionAPI',
    message: 'Eviction API: evicting',
  };
  const others = (pod.status.conditions ?? []).filter(({ type }) => type !== condition.type);
  const told = cluster.setStatus(PODS, pod, { ...pod.status, conditions: [condition, ...others] });
  cluster.remove(PODS, told, options);
}
