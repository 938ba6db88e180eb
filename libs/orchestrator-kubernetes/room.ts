import type { V1Deployment, V1Pod } from '@kubernetes/client-node';
import { LABEL } from './labels.js';
import { replicaFailure, unscheduled } from './waiting-fault.js';

const OVER_QUOTA = 'exceeded quota';

/** Whether replicas of functions wait for what other pods take: a place on a node, or a part of the namespace's quota. */
export function isShortOfRoom(pods: readonly V1Pod[], deployments: readonly V1Deployment[]): boolean {
  const isOfFunction = ({ metadata }: V1Pod) => metadata?.labels?.[LABEL.pool] === undefined;
  return (
    pods.some((pod) => isOfFunction(pod) && unscheduled(pod) !== undefined) ||
    deployments.some((deployment) => replicaFailure(deployment)?.message.includes(OVER_QUOTA))
  );
}
