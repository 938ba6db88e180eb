import type { V1Pod } from '@kubernetes/client-node';
import { POD } from '#libs/orchestrator-kubernetes/kinds.js';
import { LABEL } from '#libs/orchestrator-kubernetes/labels.js';
import type { ClusterObjects } from '../../kubernetes/support/cluster-objects.js';
import type { WorkerView } from './site.js';

/** Workers as pods of a namespace that belongs to the suite alone: whatever has our label there is the managers' doing. */
export async function podWorkers(cluster: ClusterObjects): Promise<WorkerView[]> {
  const pods = (await cluster.ours(POD)) as V1Pod[];
  return pods
    .filter(({ metadata }) => metadata?.deletionTimestamp === undefined)
    .map(({ metadata, status }) => ({
      functionId: metadata?.labels?.[LABEL.functionId] ?? '',
      replica: `${metadata?.name}/${status?.containerStatuses?.[0]?.containerID ?? ''}`,
      pid: 0,
      runners: undefined,
    }));
}
