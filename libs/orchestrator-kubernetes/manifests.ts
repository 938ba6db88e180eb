import type {
  V1ConfigMap,
  V1Deployment,
  V1Secret,
  V1Service,
  V2HorizontalPodAutoscaler,
  V2MetricTarget,
} from '@kubernetes/client-node';
import { isUtf8 } from 'node:buffer';
import type { AutoscaleConfig } from '#libs/config/config.js';
import type { FunctionId, Workload, WorkloadSecrets } from '#libs/orchestrator/workload.js';
import { CALLABLE_ANNOTATION, LABEL, objectLabels, podSelector } from './labels.js';
import { memoryQuantity } from './quantities.js';
import {
  autoscalerName,
  CODE_KEY,
  codeName,
  deploymentName,
  secretsName,
  SERVICE_PORT,
  serviceName,
  WORKER_PORT,
} from './names.js';
import { type Placement, podTemplate } from './pod-template.js';
import { requestBody } from './kube-api.js';

/** The API server takes 3 MiB in one request; this leaves room for the rest of the object. */
const LARGEST_ESCAPED_BYTES = 2.5 * 1024 * 1024;

export interface Manifests {
  readonly code: V1ConfigMap;
  /** Undefined for a function that has none. */
  readonly secrets: V1Secret | undefined;
  readonly deployment: V1Deployment;
  readonly service: V1Service;
  /** Undefined where there is nothing to scale: the function has a fixed number of replicas. */
  readonly autoscaler: V2HorizontalPodAutoscaler | undefined;
}

/**
 * Everything a function owns in the namespace. The Deployment's count of replicas is no part of it: the autoscaler sets
 * it, and server-side apply leaves alone what no manifest names.
 */
export function manifestsFor(workload: Workload, placement: Placement): Manifests {
  const { autoscale, namespace } = placement.config;
  const metadata = (name: string) => ({
    name,
    namespace,
    labels: objectLabels(placement.owner, workload.functionId),
  });
  return {
    code: codeOf(workload, metadata(codeName(workload.functionId, workload.revision))),
    secrets: workload.secrets && secretsOf(workload.functionId, workload.secrets, metadata),
    deployment: deploymentOf(workload, placement, metadata(deploymentName(workload.functionId))),
    service: serviceOf(workload, metadata(serviceName(workload.functionId))),
    autoscaler: isAutoscaled(workload, autoscale)
      ? autoscalerOf(workload, autoscale, metadata(autoscalerName(workload.functionId)))
      : undefined,
  };
}

/** Whether the cluster's autoscaler chooses the number of replicas, between the wanted one and the maximum. */
export function isAutoscaled(workload: Workload, autoscale: AutoscaleConfig): boolean {
  return mostReplicas(workload, autoscale) > 1;
}

function mostReplicas({ maxReplicas }: Workload, autoscale: AutoscaleConfig): number {
  return maxReplicas ?? autoscale.maxReplicas;
}

type Metadata = NonNullable<V1Deployment['metadata']>;

function codeOf(workload: Workload, metadata: Metadata): V1ConfigMap {
  const labels = { ...metadata.labels, [LABEL.revision]: String(workload.revision) };
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { ...metadata, labels },
    immutable: true,
    ...codeData(workload.code),
  };
}

function secretsOf(
  functionId: FunctionId,
  { variables, files, digest }: WorkloadSecrets,
  metadata: (name: string) => Metadata,
): V1Secret {
  const data = Object.entries({ ...variables, ...files }).map(([name, value]) => [
    name,
    Buffer.from(value).toString('base64'),
  ]);
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: metadata(secretsName(functionId, digest)),
    type: 'Opaque',
    immutable: true,
    data: Object.fromEntries(data) as Record<string, string>,
  };
}

/**
 * Legible where it can be. As base64 where it isn't UTF-8, and where a request can't hold it otherwise: escaped, control
 * characters take up to six times their room.
 */
function codeData(code: Buffer): Pick<V1ConfigMap, 'data' | 'binaryData'> {
  const text = code.toString('utf8');
  return !isUtf8(code) || Buffer.byteLength(requestBody(text)) > LARGEST_ESCAPED_BYTES
    ? { binaryData: { [CODE_KEY]: code.toString('base64') } }
    : { data: { [CODE_KEY]: text } };
}

function deploymentOf(workload: Workload, placement: Placement, metadata: Metadata): V1Deployment {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: {
      ...metadata,
      labels: { ...metadata.labels, [LABEL.spec]: placement.spec },
      annotations: { [CALLABLE_ANNOTATION]: workload.functionName },
    },
    spec: {
      revisionHistoryLimit: 2,
      selector: { matchLabels: podSelector(workload.functionId) },
      // The new ones are ready before an old one goes.
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: '25%', maxUnavailable: 0 } },
      template: podTemplate(workload, placement),
    },
  };
}

function serviceOf(workload: Workload, metadata: Metadata): V1Service {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata,
    spec: {
      type: 'ClusterIP',
      selector: podSelector(workload.functionId),
      ports: [{ name: 'http', port: SERVICE_PORT, targetPort: WORKER_PORT, protocol: 'TCP' }],
    },
  };
}

function autoscalerOf(workload: Workload, autoscale: AutoscaleConfig, metadata: Metadata): V2HorizontalPodAutoscaler {
  const resource = (name: string, target: V2MetricTarget) => ({ type: 'Resource', resource: { name, target } });
  // Of the limit: a share of what is requested would be passed by any handler that holds more than the little that is.
  const averageValue = memoryQuantity(Math.ceil((workload.limits.memoryMiB * autoscale.memoryPercent) / 100));
  const byPods = (value: number, periodSeconds: number, stabilizationWindowSeconds: number) => ({
    stabilizationWindowSeconds,
    selectPolicy: 'Max',
    policies: [{ type: 'Pods', value, periodSeconds }],
  });
  return {
    apiVersion: 'autoscaling/v2',
    kind: 'HorizontalPodAutoscaler',
    metadata,
    spec: {
      scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: deploymentName(workload.functionId) },
      minReplicas: Math.max(1, workload.replicas),
      maxReplicas: Math.max(workload.replicas, mostReplicas(workload, autoscale)),
      metrics: [
        resource('cpu', { type: 'Utilization', averageUtilization: autoscale.cpuPercent }),
        resource('memory', { type: 'AverageValue', averageValue }),
      ],
      behavior: {
        scaleUp: byPods(autoscale.upPods, autoscale.upPeriodSeconds, autoscale.upWindowSeconds),
        scaleDown: byPods(autoscale.downPods, autoscale.downPeriodSeconds, autoscale.downWindowSeconds),
      },
    },
  };
}
