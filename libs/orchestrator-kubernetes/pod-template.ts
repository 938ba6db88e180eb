import type { V1PodTemplateSpec, V1Probe, V1Volume } from '@kubernetes/client-node';
import type { KubernetesConfig } from '#libs/config/config.js';
import { SECRETS_DIR, workerVariables } from '#libs/orchestrator/generic-worker.js';
import type { FetchedLayer } from '#libs/orchestrator/layers.js';
import type { WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import type { FunctionId, Workload, WorkloadSecrets } from '#libs/orchestrator/workload.js';
import { CREDENTIAL_ANNOTATION, podLabels, podSelector } from './labels.js';
import { CODE_KEY, codeName, secretsName, WORKER_PORT } from './names.js';
import { LAYER_VOLUME, layerMiB, layerPath, LAYERS_DIR, ownLayers, workerPodSpec } from './worker-pod.js';

const CODE_DIR = '/app/function';
const READ_ONLY_FILE = 0o444;
const START_PROBE_SECONDS = 1;
/** A handler may import much; the manager's own deadline for an upload is shorter. */
const START_PROBES = 600;

export interface Placement {
  readonly owner: string;
  readonly spec: string;
  readonly config: KubernetesConfig;
  readonly tokens: WorkerTokens;
  /** What the workload's packages are fetched by; undefined: it has none. */
  readonly layer?: FetchedLayer | undefined;
}

/** What every replica of a workload is made from. */
export function podTemplate(workload: Workload, { owner, spec, config, tokens, layer }: Placement): V1PodTemplateSpec {
  const { functionId, revision, limits, secrets } = workload;
  const files = secrets === undefined ? [] : secretFiles(functionId, secrets);
  const items = [{ key: CODE_KEY, path: CODE_KEY }];
  // Pods of one template can't differ. One for all revisions: while they roll, all are behind one Service.
  const call = tokens.issue(functionId);
  const pod = {
    timeoutMs: limits.timeoutMs,
    apart: podSelector(functionId),
    environment: variablesOf(workload, layer, config),
    layer,
    secretVariables: secrets && {
      secret: secretsName(functionId, secrets.digest),
      names: Object.keys(secrets.variables),
    },
    call,
    limits,
    probes: {
      startupProbe: health({ periodSeconds: START_PROBE_SECONDS, timeoutSeconds: 2, failureThreshold: START_PROBES }),
      readinessProbe: health({ periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 3 }),
      livenessProbe: health({ periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 3 }),
    },
    mounts: [
      { name: 'code', mountPath: CODE_DIR, readOnly: true },
      ...files.map(({ name }) => ({ name, mountPath: SECRETS_DIR, readOnly: true })),
      ...(layer === undefined ? [] : [{ name: LAYER_VOLUME, mountPath: LAYERS_DIR, readOnly: true }]),
    ],
    volumes: [
      { name: 'code', configMap: { name: codeName(functionId, revision), defaultMode: READ_ONLY_FILE, items } },
      ...files,
      ...(layer === undefined ? [] : [layersOf(layer, config)]),
    ],
  };
  const added = config.workerPods;
  const annotations = { ...added.annotations, [CREDENTIAL_ANNOTATION]: call.credential };
  const labels = { ...added.labels, ...podLabels(owner, workload, spec) };
  return { metadata: { labels, annotations }, spec: workerPodSpec(pod, config) };
}

/** What every worker of it is told, in a pod of its own or of the pool. */
export function variablesOf(
  workload: Workload,
  layer: FetchedLayer | undefined,
  config: Pick<KubernetesConfig, 'layersClaim'>,
): Record<string, string> {
  return { ...workerVariables(workload), ...(layer && { FAAS_LAYER: layerPath(layer, config) }) };
}

function layersOf(layer: FetchedLayer, { layersClaim }: KubernetesConfig): V1Volume {
  if (layersClaim === undefined) return ownLayers(layerMiB(layer));
  return { name: LAYER_VOLUME, persistentVolumeClaim: { claimName: layersClaim } };
}

/** A volume in memory with those that are files; none where none is. */
function secretFiles(functionId: FunctionId, { files, digest }: WorkloadSecrets): V1Volume[] {
  const items = Object.keys(files).map((name) => ({ key: name, path: name }));
  if (items.length === 0) return [];
  const secretName = secretsName(functionId, digest);
  return [{ name: 'secrets', secret: { secretName, defaultMode: READ_ONLY_FILE, items } }];
}

function health(pace: V1Probe): V1Probe {
  return { httpGet: { path: '/health', port: WORKER_PORT, scheme: 'HTTP' }, ...pace };
}
