import { createHash } from 'node:crypto';
import type { V1Pod } from '@kubernetes/client-node';
import type { KubernetesConfig, LayersConfig } from '#libs/config/config.js';
import { longestUnpackingMs } from '#libs/orchestrator/layers.js';
import { sweepLabels } from './labels.js';
import { controllerOf } from './pool-pod.js';
import { accountOf, CLAIM_USER, CLAIM_WRITER, hardening, LAYERS_DIR, runtimeOf, SHARED_DIR } from './worker-pod.js';

const VOLUME = 'layers';
/** The only container. */
export const SWEEPER = 'sweep';
/** Longer than a layer that was made just now takes to be in the list of those that are kept. */
const YOUNG_MS = 10 * 60_000;
/** Of a digest: thousands of them must fit into one object. */
const TOLD_DIGITS = 16;
const NAME_DIGITS = 16;
/** Managers that look in the same minute want the same. */
const MINUTE_MS = 60_000;
const LONGEST_SECONDS = 600;

/** What was used this lately is spared, kept or not. */
export function youngMs(rules: LayersConfig): number {
  return YOUNG_MS + longestUnpackingMs(rules);
}

/**
 * Removes from the shared claim what isn't kept. It runs nothing but the worker package's own sweep, in the image of
 * workers; managers that want the same at once make one pod between them.
 *
 * @param kept the layers that are kept, as known at `listedAt`: whenever the pod runs, it spares what came later
 */
export function sweepPod(
  kept: ReadonlySet<string>,
  claimName: string,
  { owner, config, rules }: { owner: string; config: KubernetesConfig; rules: LayersConfig },
  ownerUid: string,
  listedAt: number,
): V1Pod {
  const { nodeSelector, tolerations, affinity } = config.workerPods;
  const before = Math.floor((listedAt - youngMs(rules)) / MINUTE_MS) * (MINUTE_MS / 1_000);
  const told = [...kept].map((digest) => digest.slice(0, TOLD_DIGITS)).toSorted();
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      namespace: config.namespace,
      ownerReferences: [controllerOf(ownerUid)],
      labels: sweepLabels(owner),
      annotations: { 'cluster-autoscaler.kubernetes.io/safe-to-evict': 'true' },
    },
    spec: {
      restartPolicy: 'Never',
      activeDeadlineSeconds: LONGEST_SECONDS,
      terminationGracePeriodSeconds: 1,
      ...accountOf(config),
      securityContext: CLAIM_USER,
      ...runtimeOf(config),
      ...({ nodeSelector, tolerations, affinity } as object),
      containers: [
        {
          name: SWEEPER,
          image: config.image,
          imagePullPolicy: config.imagePullPolicy,
          command: ['python3', '-m', 'faas_worker.layer_sweep', SHARED_DIR, String(before), ...told],
          resources: {
            requests: { cpu: '50m', memory: '32Mi', 'ephemeral-storage': '8Mi' },
            limits: { cpu: '500m', memory: '256Mi', 'ephemeral-storage': '64Mi' },
          },
          securityContext: { ...hardening(), ...CLAIM_WRITER },
          terminationMessagePolicy: 'FallbackToLogsOnError',
          volumeMounts: [{ name: VOLUME, mountPath: LAYERS_DIR }],
        },
      ],
      volumes: [{ name: VOLUME, persistentVolumeClaim: { claimName } }],
    },
  } satisfies V1Pod;
  // A pod can't be changed: another image, say, makes another one.
  const digits = createHash('sha256').update(JSON.stringify(pod)).digest('hex').slice(0, NAME_DIGITS);
  return { ...pod, metadata: { ...pod.metadata, name: `faas-sweep-${digits}` } };
}
