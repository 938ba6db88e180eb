import type { V1Container, V1EnvVar, V1PodSpec } from '@kubernetes/client-node';
import type { KubernetesConfig, WorkerPodSettings } from '#libs/config/config.js';
import type { CallToken } from '#libs/orchestrator/worker-tokens.js';
import { LEAVING_MS, type WorkloadLimits } from '#libs/orchestrator/workload.js';
import { CONTAINER, WORKER_PORT } from './names.js';
import { cpuQuantity, memoryQuantity } from './quantities.js';

/** No user of a Debian, Alpine or distroless image. */
const NON_ROOT = 65532;
/** A leaving replica goes on answering for this long, until every router knows that it leaves. */
const NOTICE_SECONDS = 2;
/**
 * A worker writes to its node's disk by its log alone, of which the kubelet keeps 50 MiB by default but counts what came
 * since it last looked, seconds ago.
 */
const DISK_MIB = { request: 64, limit: 512 } as const;
/** The kubelet counts whole seconds from before it tells the worker. */
const ENDING_SECONDS = LEAVING_MS / 1000 + 1;

type PodPlacement = WorkerPodSettings &
  Pick<V1PodSpec, 'nodeSelector' | 'tolerations' | 'affinity' | 'topologySpreadConstraints' | 'priorityClassName'>;
type Probes = Pick<V1Container, 'startupProbe' | 'readinessProbe' | 'livenessProbe'>;

/** What differs between pods of workers. */
export interface WorkerPod {
  /** Its longest call. */
  readonly timeoutMs: number;
  /** Labels of the pods that are to lie on different nodes. */
  readonly apart: Readonly<Record<string, string>>;
  readonly environment: Readonly<Record<string, string>>;
  /** Of a Secret, each key a variable. */
  readonly secretVariables?: { readonly secret: string; readonly names: readonly string[] } | undefined;
  readonly call: Pick<CallToken, 'sha256'>;
  readonly limits: Pick<WorkloadLimits, 'cpuMillis' | 'memoryMiB' | 'pids'>;
  readonly probes: Probes;
  readonly mounts: NonNullable<V1Container['volumeMounts']>;
  readonly volumes: NonNullable<V1PodSpec['volumes']>;
}

/** Seconds from being told to leave until the last call is done and the worker has ended. */
export function graceSeconds(timeoutMs: number): number {
  return NOTICE_SECONDS + Math.ceil(timeoutMs / 1000) + ENDING_SECONDS;
}

/** What every worker runs in, with a function or without: the restricted profile of Kubernetes' Pod Security Standards. */
export function workerPodSpec(pod: WorkerPod, config: KubernetesConfig): V1PodSpec {
  const { labels: _, annotations: __, ...placement } = config.workerPods as PodPlacement;
  return {
    serviceAccountName: config.workerServiceAccount,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    ...(!config.hostUsers && { hostUsers: false }),
    terminationGracePeriodSeconds: graceSeconds(pod.timeoutMs),
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
        labelSelector: { matchLabels: pod.apart },
      },
    ],
    ...placement,
    containers: [container(pod, config)],
    volumes: [...pod.volumes, { name: 'tmp', emptyDir: { medium: 'Memory', sizeLimit: '64Mi' } }],
    ...(config.runtimeClass !== undefined && { runtimeClassName: config.runtimeClass }),
    ...(config.imagePullSecret !== undefined && { imagePullSecrets: [{ name: config.imagePullSecret }] }),
  };
}

function container(pod: WorkerPod, config: KubernetesConfig): V1Container {
  const environment = {
    ...pod.environment,
    FAAS_CALL_SHA256: pod.call.sha256,
    // The kubelet's limit is the pod's, which can't be seen from inside of it.
    FAAS_MOST_TASKS: String(pod.limits.pids),
    HOME: '/tmp',
    PYTHONUNBUFFERED: '1',
    PYTHONDONTWRITEBYTECODE: '1',
  };
  return {
    name: CONTAINER,
    image: config.image,
    imagePullPolicy: config.imagePullPolicy,
    ports: [{ name: 'http', containerPort: WORKER_PORT, protocol: 'TCP' }],
    // Kubernetes would put other variables in the place of $(NAME).
    env: [
      ...Object.entries(environment).map(([name, value]) => ({ name, value: value.replaceAll('$', '$$$$') })),
      ...secretVariables(pod),
    ],
    resources: resources(pod, config),
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
    ...pod.probes,
    lifecycle: { preStop: { sleep: { seconds: NOTICE_SECONDS } } },
    terminationMessagePolicy: 'FallbackToLogsOnError',
    volumeMounts: [...pod.mounts, { name: 'tmp', mountPath: '/tmp' }],
  };
}

function secretVariables({ secretVariables: from }: WorkerPod): V1EnvVar[] {
  if (from === undefined) return [];
  const { secret, names } = from;
  return names.map((name) => ({ name, valueFrom: { secretKeyRef: { name: secret, key: name } } }));
}

/** A request above the limit would be refused, so small limits pull their requests down. */
function resources({ limits }: WorkerPod, { requests }: KubernetesConfig): V1Container['resources'] {
  return {
    requests: {
      cpu: cpuQuantity(Math.min(requests.cpuMillis, limits.cpuMillis)),
      memory: memoryQuantity(Math.min(requests.memoryMiB, limits.memoryMiB)),
      'ephemeral-storage': memoryQuantity(DISK_MIB.request),
    },
    limits: {
      cpu: cpuQuantity(limits.cpuMillis),
      memory: memoryQuantity(limits.memoryMiB),
      'ephemeral-storage': memoryQuantity(DISK_MIB.limit),
    },
  };
}
