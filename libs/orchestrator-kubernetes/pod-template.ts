import type { V1PodTemplateSpec, V1Probe } from '@kubernetes/client-node';
import type { KubernetesConfig } from '#libs/config/config.js';
import { workerVariables } from '#libs/orchestrator/generic-worker.js';
import type { Workload } from '#libs/orchestrator/workload.js';
import { podLabels, podSelector } from './labels.js';
import { CODE_KEY, codeName, WORKER_PORT } from './names.js';
import { workerPodSpec } from './worker-pod.js';

const CODE_DIR = '/app/function';
const READ_ONLY_FILE = 0o444;
const START_PROBE_SECONDS = 1;
/** A handler may import much; the manager's own deadline for an upload is shorter. */
const START_PROBES = 600;

export interface Placement {
  readonly owner: string;
  readonly spec: string;
  readonly config: KubernetesConfig;
}

/** What every replica of a workload is made from. */
export function podTemplate(workload: Workload, { owner, spec, config }: Placement): V1PodTemplateSpec {
  const { functionId, revision, limits } = workload;
  const items = [{ key: CODE_KEY, path: CODE_KEY }];
  const pod = {
    timeoutMs: limits.timeoutMs,
    apart: podSelector(functionId),
    environment: workerVariables(workload),
    limits,
    probes: {
      startupProbe: health({ periodSeconds: START_PROBE_SECONDS, timeoutSeconds: 2, failureThreshold: START_PROBES }),
      readinessProbe: health({ periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 3 }),
      livenessProbe: health({ periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 3 }),
    },
    mounts: [{ name: 'code', mountPath: CODE_DIR, readOnly: true }],
    volumes: [
      { name: 'code', configMap: { name: codeName(functionId, revision), defaultMode: READ_ONLY_FILE, items } },
    ],
  };
  return { metadata: { labels: podLabels(owner, workload, spec) }, spec: workerPodSpec(pod, config) };
}

function health(pace: V1Probe): V1Probe {
  return { httpGet: { path: '/health', port: WORKER_PORT, scheme: 'HTTP' }, ...pace };
}
