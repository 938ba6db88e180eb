import type { V1Container, V1PodSpec, V1PodTemplateSpec, V1Probe } from '@kubernetes/client-node';
import type { KubernetesConfig } from '#libs/config/config.js';
import type { Workload } from '#libs/orchestrator/workload.js';
import { podLabels, podSelector } from './labels.js';
import { CODE_KEY, codeName, CONTAINER, WORKER_PORT } from './names.js';
import { cpuQuantity, memoryQuantity } from './quantities.js';

/** Nobody on any Debian, Alpine or distroless image. */
const NON_ROOT = 65532;
const CODE_DIR = '/app/function';
const READ_ONLY_FILE = 0o444;
/** A leaving replica goes on answering for this long, so that everybody who routes to it has learnt that it leaves. */
const NOTICE_SECONDS = 2;
/** For the worker's own ending, after the calls. */
const ENDING_SECONDS = 3;
const START_PROBE_SECONDS = 1;
/** A handler may import much; the manager's own deadline for an upload is shorter. */
const START_PROBES = 600;

export interface Placement {
  readonly owner: string;
  readonly spec: string;
  readonly config: KubernetesConfig;
}

/** What every replica of a workload is made from: the restricted profile of Kubernetes' Pod Security Standards. */
export function podTemplate(workload: Workload, { owner, spec, config }: Placement): V1PodTemplateSpec {
  return {
    metadata: { labels: podLabels(owner, workload, spec) },
    spec: {
      serviceAccountName: config.workerServiceAccount,
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      terminationGracePeriodSeconds: NOTICE_SECONDS + Math.ceil(workload.limits.timeoutMs / 1000) + ENDING_SECONDS,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: NON_ROOT,
        runAsGroup: NON_ROOT,
        seccompProfile: { type: 'RuntimeDefault' },
      },
      topologySpreadConstraints: [
        {
          maxSkew: 1,
          topologyKey: 'kubernetes.io/hostname',
          whenUnsatisfiable: 'ScheduleAnyway',
          labelSelector: { matchLabels: podSelector(workload.functionId) },
        },
      ],
      containers: [container(workload, config)],
      volumes: volumes(workload),
      ...(config.runtimeClass !== undefined && { runtimeClassName: config.runtimeClass }),
      ...(config.imagePullSecret !== undefined && { imagePullSecrets: [{ name: config.imagePullSecret }] }),
    },
  };
}

function container(workload: Workload, config: KubernetesConfig): V1Container {
  return {
    name: CONTAINER,
    image: config.image,
    imagePullPolicy: config.imagePullPolicy,
    ports: [{ name: 'http', containerPort: WORKER_PORT, protocol: 'TCP' }],
    env: environment(workload),
    resources: resources(workload, config),
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
    startupProbe: health({ periodSeconds: START_PROBE_SECONDS, timeoutSeconds: 2, failureThreshold: START_PROBES }),
    readinessProbe: health({ periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 3 }),
    livenessProbe: health({ periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 3 }),
    lifecycle: { preStop: { sleep: { seconds: NOTICE_SECONDS } } },
    terminationMessagePolicy: 'FallbackToLogsOnError',
    volumeMounts: [
      { name: 'code', mountPath: CODE_DIR, readOnly: true },
      { name: 'tmp', mountPath: '/tmp' },
    ],
  };
}

function health(pace: V1Probe): V1Probe {
  return { httpGet: { path: '/health', port: WORKER_PORT, scheme: 'HTTP' }, ...pace };
}

function environment({ functionId, functionName, limits }: Workload): V1Container['env'] {
  return Object.entries({
    FAAS_FUNCTION: functionId,
    HANDLER_FUNCTION: `function.handler.${functionName}`,
    FAAS_TIMEOUT_MS: String(limits.timeoutMs),
    FAAS_CONCURRENCY: String(limits.concurrency),
    HOME: '/tmp',
    PYTHONUNBUFFERED: '1',
    PYTHONDONTWRITEBYTECODE: '1',
  }).map(([name, value]) => ({ name, value }));
}

/** A request above the limit would be refused, so small limits pull their requests down. */
function resources({ limits }: Workload, { requests }: KubernetesConfig): V1Container['resources'] {
  return {
    requests: {
      cpu: cpuQuantity(Math.min(requests.cpuMillis, limits.cpuMillis)),
      memory: memoryQuantity(Math.min(requests.memoryMiB, limits.memoryMiB)),
    },
    limits: { cpu: cpuQuantity(limits.cpuMillis), memory: memoryQuantity(limits.memoryMiB) },
  };
}

function volumes(workload: Workload): V1PodSpec['volumes'] {
  return [
    {
      name: 'code',
      configMap: {
        name: codeName(workload.functionId, workload.revision),
        defaultMode: READ_ONLY_FILE,
        items: [{ key: CODE_KEY, path: CODE_KEY }],
      },
    },
    { name: 'tmp', emptyDir: { medium: 'Memory', sizeLimit: '64Mi' } },
  ];
}
