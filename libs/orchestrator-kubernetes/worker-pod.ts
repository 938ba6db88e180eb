import { createHash } from 'node:crypto';
import type { V1Container, V1EnvVar, V1PodSpec, V1Volume } from '@kubernetes/client-node';
import type { KubernetesConfig, WorkerPodSettings } from '#libs/config/config.js';
import type { FetchedLayer } from '#libs/orchestrator/layers.js';
import type { CallToken } from '#libs/orchestrator/worker-tokens.js';
import { LEAVING_MS, type WorkloadLimits } from '#libs/orchestrator/workload.js';
import { CONTAINER, LAYER_CONTAINER, WORKER_PORT } from './names.js';
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
const BYTES_PER_FILE = 8_192;
const MIB = 1024 * 1024;
/** Where packages are in a pod: its own that it has fetched, or those that all pods share. */
export const LAYERS_DIR = '/layers';
export const LAYER_VOLUME = 'layer';
/** A folder of a shared claim, which nobody but those who fill it may list. */
export const SHARED_DIR = `${LAYERS_DIR}/packages`;
/**
 * Fills a shared claim. Workers own nothing in it; but what keeps them from writing is that they have it mounted for
 * reading, for the group that the kubelet gives to the claim's files is theirs as well.
 */
const LAYER_USER = 65533;
/** Of what nobody can guess in the name of a shared layer. */
const SECRET_DIGITS = 32;
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
  /** Packages that the pod fetches before its worker starts. */
  readonly layer?: FetchedLayer | undefined;
  /** What it may write to its node's disk besides. */
  readonly diskMiB?: number;
}

/** Seconds from being told to leave until the last call is done and the worker has ended. */
export function graceSeconds(timeoutMs: number): number {
  return NOTICE_SECONDS + Math.ceil(timeoutMs / 1000) + ENDING_SECONDS;
}

/** What every worker runs in, with a function or without: the restricted profile of Kubernetes' Pod Security Standards. */
export function workerPodSpec(pod: WorkerPod, config: KubernetesConfig): V1PodSpec {
  const { labels: _, annotations: __, ...placement } = config.workerPods as PodPlacement;
  return {
    ...accountOf(config),
    terminationGracePeriodSeconds: graceSeconds(pod.timeoutMs),
    securityContext: pod.layer !== undefined && config.layersClaim !== undefined ? CLAIM_USER : POD_USER,
    topologySpreadConstraints: [
      {
        maxSkew: 1,
        topologyKey: 'kubernetes.io/hostname',
        whenUnsatisfiable: 'ScheduleAnyway',
        labelSelector: { matchLabels: pod.apart },
      },
    ],
    ...placement,
    ...(pod.layer !== undefined && { initContainers: [layerContainer(pod.layer, pod, config)] }),
    containers: [container(pod, config)],
    volumes: [...pod.volumes, { name: 'tmp', emptyDir: { medium: 'Memory', sizeLimit: '64Mi' } }],
    ...runtimeOf(config),
  };
}

/** An account that may do nothing, and nothing that leads to others. */
export function accountOf(config: KubernetesConfig) {
  return {
    serviceAccountName: config.workerServiceAccount,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    ...(!config.hostUsers && { hostUsers: false }),
  };
}

export const POD_USER: V1PodSpec['securityContext'] = {
  runAsNonRoot: true,
  runAsUser: NON_ROOT,
  runAsGroup: NON_ROOT,
  seccompProfile: { type: 'RuntimeDefault' },
};

/** Where the claim is one whose owner the kubelet sets. */
export const CLAIM_USER: V1PodSpec['securityContext'] = {
  ...POD_USER,
  fsGroup: LAYER_USER,
  fsGroupChangePolicy: 'OnRootMismatch',
};

/** Of a container that writes to the shared claim. */
export const CLAIM_WRITER = { runAsUser: LAYER_USER, runAsGroup: LAYER_USER };

export function runtimeOf({ runtimeClass, imagePullSecret }: KubernetesConfig) {
  return {
    ...(runtimeClass !== undefined && { runtimeClassName: runtimeClass }),
    ...(imagePullSecret !== undefined && { imagePullSecrets: [{ name: imagePullSecret }] }),
  };
}

export function hardening() {
  return { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } };
}

/** Fetches the function's packages, before its worker starts. What opens them stays out of the worker's environment. */
function layerContainer(layer: FetchedLayer, pod: WorkerPod, config: KubernetesConfig): V1Container {
  const environment = {
    FAAS_LAYER: layerPath(layer, config),
    FAAS_LAYER_URL: layer.url,
    FAAS_LAYER_TOKEN: layer.token,
    FAAS_LAYER_SHA256: layer.sha256,
    FAAS_LAYER_BYTES: String(layer.bytes),
    FAAS_LAYER_FILES: String(layer.files),
    ...(config.layersClaim !== undefined && { HOME: '/nonexistent', FAAS_LAYER_SHARED: '1' }),
  };
  return {
    name: LAYER_CONTAINER,
    image: config.image,
    imagePullPolicy: config.imagePullPolicy,
    command: ['python3', '-m', 'faas_worker.fetched_layer'],
    env: Object.entries(environment).map(([name, value]) => ({ name, value })),
    resources: resources(pod, config),
    securityContext: { ...hardening(), ...(config.layersClaim !== undefined && CLAIM_WRITER) },
    terminationMessagePolicy: 'FallbackToLogsOnError',
    volumeMounts: [
      { name: LAYER_VOLUME, mountPath: LAYERS_DIR },
      // What may write to the layers of all functions takes nothing that its pod's handler may have left.
      ...(config.layersClaim === undefined ? [{ name: 'tmp', mountPath: '/tmp' }] : []),
    ],
  };
}

/**
 * Where the worker has it. Anybody can work out the digest of packages that are known by name; the folder's name, among
 * those of other functions, is for those who were told it. Another archive of the same packages has another name.
 */
export function layerPath(
  { digest, token, sha256 }: Pick<FetchedLayer, 'digest' | 'token' | 'sha256'>,
  { layersClaim }: Pick<KubernetesConfig, 'layersClaim'>,
): string {
  if (layersClaim === undefined) return `${LAYERS_DIR}/${digest}`;
  const secret = createHash('sha256').update(`${token} ${sha256}`).digest('hex').slice(0, SECRET_DIGITS);
  return `${SHARED_DIR}/${digest}-${secret}`;
}

/** Of a pod that fetches packages for itself, at most so many. */
export function ownLayers(mib: number): V1Volume {
  return { name: LAYER_VOLUME, emptyDir: { sizeLimit: memoryQuantity(mib) } };
}

/** What it takes of a node's disk: files fill whole blocks, and lie in folders. */
export function layerMiB({ bytes, files }: Pick<FetchedLayer, 'bytes' | 'files'>): number {
  return Math.ceil((bytes + files * BYTES_PER_FILE) / MIB) + DISK_MIB.request;
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
    securityContext: hardening(),
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
function resources(
  { limits, layer, diskMiB = 0 }: WorkerPod,
  { requests, layersClaim }: KubernetesConfig,
): V1Container['resources'] {
  const packages = layer === undefined || layersClaim !== undefined ? 0 : layerMiB(layer);
  return {
    requests: {
      cpu: cpuQuantity(Math.min(requests.cpuMillis, limits.cpuMillis)),
      memory: memoryQuantity(Math.min(requests.memoryMiB, limits.memoryMiB)),
      'ephemeral-storage': memoryQuantity(DISK_MIB.request + packages),
    },
    limits: {
      cpu: cpuQuantity(limits.cpuMillis),
      memory: memoryQuantity(limits.memoryMiB),
      'ephemeral-storage': memoryQuantity(DISK_MIB.limit + packages + diskMiB),
    },
  };
}
