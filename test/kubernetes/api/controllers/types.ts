import type { KubeObject, StoredObject } from '../store/objects.js';
import type { LabelSelector } from '../store/selectors.js';

/** What the controllers read of the objects they look after; the schema has checked that it is so. */
export interface PodTemplate {
  readonly metadata?: { readonly labels?: Record<string, string>; readonly annotations?: Record<string, string> };
  readonly spec: object;
}

export interface Condition {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason?: string;
  readonly message?: string;
  readonly lastTransitionTime?: string;
  readonly lastUpdateTime?: string;
}

export interface Deployment extends StoredObject {
  spec: {
    replicas: number;
    selector: LabelSelector;
    template: PodTemplate;
    strategy: { type: string; rollingUpdate?: { maxSurge: number | string; maxUnavailable: number | string } };
    minReadySeconds?: number;
    paused?: boolean;
    revisionHistoryLimit: number;
    progressDeadlineSeconds: number;
  };
  status: { conditions?: Condition[]; observedGeneration?: number };
}

export interface ReplicaSet extends StoredObject {
  spec: { replicas: number; selector: LabelSelector; template: PodTemplate; minReadySeconds?: number };
  status: {
    replicas?: number;
    readyReplicas?: number;
    availableReplicas?: number;
    observedGeneration?: number;
    conditions?: Condition[];
  };
}

export interface Pod extends StoredObject {
  spec: { nodeName?: string; terminationGracePeriodSeconds?: number; restartPolicy?: string; containers: object[] };
  status: { phase?: string; podIP?: string; conditions?: Condition[] };
}

export function conditionOf(object: KubeObject, type: string): Condition | undefined {
  return (object.status as { conditions?: Condition[] } | undefined)?.conditions?.find((one) => one.type === type);
}

export function isReady(pod: KubeObject): boolean {
  return conditionOf(pod, 'Ready')?.status === 'True';
}

/** Milliseconds until a ready pod counts as available; 0 when it does. */
export function untilAvailable(pod: KubeObject, minReadySeconds = 0): number {
  const ready = conditionOf(pod, 'Ready');
  if (ready?.status !== 'True') return Infinity;
  return Math.max(0, Date.parse(ready.lastTransitionTime ?? '') + minReadySeconds * 1000 - Date.now());
}
