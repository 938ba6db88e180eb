import type { V1ConfigMap, V1OwnerReference, V1Pod } from '@kubernetes/client-node';
import type { KubernetesConfig, PoolConfig } from '#libs/config/config.js';
import { type OneTimeToken, SECRETS_DIR } from '#libs/orchestrator/generic-worker.js';
import type { CallToken } from '#libs/orchestrator/worker-tokens.js';
import { CONFIG_MAP } from './kinds.js';
import { CREDENTIAL_ANNOTATION, poolLabels, poolSelector } from './labels.js';
import { POOL_OWNER } from './names.js';
import { LAYER_VOLUME, layerMiB, LAYERS_DIR, ownLayers, workerPodSpec } from './worker-pod.js';

const MIB = 1024 * 1024;
/** Where a pod that shares layers fetches one that isn't among them yet. */
const FETCHED_DIR = '/fetched';
const SHARED_VOLUME = 'layers';

/** Beyond any function's; once it has one, the worker itself bounds its leaving by that one's. */
const LONGEST_CALL_MS = 3_600_000;

export interface PoolPlacement {
  readonly owner: string;
  readonly config: KubernetesConfig;
  readonly limits: Pick<PoolConfig, 'cpuMillis' | 'memoryMiB' | 'pids'>;
}

/**
 * A worker without a function, hardened as those with one. Its container is never started again: it would be generic
 * once more, after a function has run in its pod.
 *
 * @param leaseMs how long it waits for a sign of its manager
 * @param ownerUid of {@link POOL_OWNER}
 */
export function poolPod(
  name: string,
  sha256: OneTimeToken['sha256'],
  leaseMs: number,
  call: CallToken,
  placement: PoolPlacement,
  ownerUid: string,
): V1Pod {
  const { owner, config, limits } = placement;
  // It fetches packages itself, once it has a function, unless they lie in a claim that it has for reading.
  const { layers, layersClaim: claimName } = config;
  const packages = layers?.served && { mib: layerMiB({ bytes: layers.largestMiB * MIB, files: layers.mostFiles }) };
  const pod = {
    timeoutMs: LONGEST_CALL_MS,
    apart: poolSelector(),
    environment: {
      FAAS_SPECIALISE_SHA256: sha256,
      FAAS_GENERIC_LEASE_MS: String(leaseMs),
      ...(claimName !== undefined && { FAAS_LAYERS_DIR: FETCHED_DIR }),
    },
    call,
    limits,
    // It has no health before it has a function, and its manager asks for that itself: probes would but leave events.
    probes: {},
    // For what its function gets as files.
    mounts: [
      { name: 'secrets', mountPath: SECRETS_DIR },
      ...(packages === undefined
        ? []
        : [{ name: LAYER_VOLUME, mountPath: claimName === undefined ? LAYERS_DIR : FETCHED_DIR }]),
      ...(claimName === undefined ? [] : [{ name: SHARED_VOLUME, mountPath: LAYERS_DIR, readOnly: true }]),
    ],
    volumes: [
      { name: 'secrets', emptyDir: { medium: 'Memory', sizeLimit: '2Mi' } },
      ...(packages === undefined ? [] : [ownLayers(packages.mib)]),
      ...(claimName === undefined
        ? []
        : [{ name: SHARED_VOLUME, persistentVolumeClaim: { claimName, readOnly: true } }]),
    ],
    ...(packages !== undefined && { diskMiB: packages.mib }),
  };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      ownerReferences: [controllerOf(ownerUid)],
      namespace: config.namespace,
      labels: { ...config.workerPods.labels, ...poolLabels(owner) },
      // It may be evicted: another one can be made elsewhere.
      annotations: {
        ...config.workerPods.annotations,
        'cluster-autoscaler.kubernetes.io/safe-to-evict': 'true',
        [CREDENTIAL_ANNOTATION]: call.credential,
      },
    },
    spec: {
      restartPolicy: 'Never',
      ...workerPodSpec(pod, config),
      ...(config.poolPriorityClass !== undefined && { priorityClassName: config.poolPriorityClass }),
    },
  };
}

/** Made anew where somebody deleted it; all installations in a namespace share it. */
export function poolOwner(namespace: string): V1ConfigMap {
  const labels = { 'app.kubernetes.io/part-of': 'service-faas' };
  return {
    apiVersion: CONFIG_MAP.apiVersion,
    kind: CONFIG_MAP.kind,
    metadata: { name: POOL_OWNER, namespace, labels },
  };
}

/** Called its controller, though it controls nothing: drains leave alone what has none. */
export function controllerOf(uid: string): V1OwnerReference {
  return { apiVersion: CONFIG_MAP.apiVersion, kind: CONFIG_MAP.kind, name: POOL_OWNER, uid, controller: true };
}
