import type { V1Deployment } from '@kubernetes/client-node';

export interface ScaleWish {
  readonly wanted: number;
  /** The autoscaler chooses, from `wanted` upwards. */
  readonly autoscaled: boolean;
  /** The code can't be loaded, and nothing else of the function serves. */
  readonly hopeless: boolean;
}

/** To how many replicas a Deployment must be set; undefined where its count is right, or another's to choose. */
export function replicasToSet(
  deployment: V1Deployment,
  { wanted, autoscaled, hopeless }: ScaleWish,
): number | undefined {
  const current = deployment.spec?.replicas ?? 1;
  if (hopeless || wanted === 0) return current === 0 ? undefined : 0;
  if (autoscaled) return current < wanted ? wanted : undefined;
  return current === wanted ? undefined : wanted;
}
