import { createHash } from 'node:crypto';
import type { V1Pod } from '@kubernetes/client-node';
import type { KubernetesConfig, LayersConfig } from '#libs/config/config.js';
import { longestUnpackingMs } from '#libs/orchestrator/layers.js';
import { sweepLabels } from './labels.js';
import { controllerOf } from './pool-pod.js';
import { accountOf, CLAIM_USER, CLAIM_WRITER, hardening, LAYERS_DIR, runtimeOf, SHARED_DIR } from './worker-pod.js';

const VOLUME = 'layers';
/** Longer than a layer that was made just now takes to be in the list of those that are kept. */
const YOUNG_MS = 10 * 60_000;
/** Of a digest: thousands of them must fit into one object. */
const TOLD_DIGITS = 16;
const LONGEST_SECONDS = 600;

/**
 * Removes from the shared claim what isn't kept. It runs nothing but the worker package's own sweep, in the image of
 * workers; managers that want the same at once make one pod between them.
 */
export function sweepPod(
  kept: ReadonlySet<string>,
  claimName: string,
  { owner, config, rules }: { owner: string; config: KubernetesConfig; rules: LayersConfig },
  ownerUid: string,
): V1Pod {
  const { nodeSelector, tolerations, affinity } = config.workerPods;
  const young = String((YOUNG_MS + longestUnpackingMs(rules)) / 1_000);
  const told = [...kept].map((digest) => digest.slice(0, TOLD_DIGITS)).toSorted();
  const name = createHash('sha256')
    .update([owner, ...told].join())
    .digest('hex')
    .slice(0, TOLD_DIGITS);
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: `faas-sweep-${name}`,
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
          name: 'sweep',
          image: config.image,
          imagePullPolicy: config.imagePullPolicy,
          command: ['python3', '-m', 'faas_worker.layer_sweep', SHARED_DIR, young, ...told],
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
  };
}
