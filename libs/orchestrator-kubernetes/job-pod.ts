import type { V1Pod, V1PodSpec } from '@kubernetes/client-node';
import type { KubernetesConfig } from '#libs/config/config.js';
import { controllerOf } from './pool-pod.js';
import { accountOf, runtimeOf } from './worker-pod.js';

/** What differs between pods that do one thing and end. */
export interface Job extends Pick<V1PodSpec, 'containers' | 'securityContext' | 'volumes'> {
  readonly labels: Readonly<Record<string, string>>;
  /** The node ends it after so long when nobody else does. */
  readonly seconds: number;
}

/** A pod without a name that is tried once, on the machines that workers run on. */
export function jobPod({ labels, seconds, ...job }: Job, config: KubernetesConfig, ownerUid: string) {
  const { nodeSelector, tolerations, affinity } = config.workerPods;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      namespace: config.namespace,
      ownerReferences: [controllerOf(ownerUid)],
      labels,
      annotations: { 'cluster-autoscaler.kubernetes.io/safe-to-evict': 'true' },
    },
    spec: {
      restartPolicy: 'Never',
      activeDeadlineSeconds: seconds,
      terminationGracePeriodSeconds: 1,
      ...accountOf(config),
      ...runtimeOf(config),
      ...({ nodeSelector, tolerations, affinity } as object),
      ...job,
    },
  } satisfies V1Pod;
}

export function named(pod: ReturnType<typeof jobPod>, name: string): V1Pod {
  return { ...pod, metadata: { ...pod.metadata, name } };
}
