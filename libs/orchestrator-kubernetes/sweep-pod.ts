import { createHash } from 'node:crypto';
import type { V1Pod } from '@kubernetes/client-node';
import type { KubernetesConfig, LayersConfig } from '#libs/config/config.js';
import { longestUnpackingMs } from '#libs/orchestrator/layers.js';
import { jobPod, named } from './job-pod.js';
import { sweepLabels } from './labels.js';
import { CLAIM_USER, CLAIM_WRITER, hardening, LAYERS_DIR, SHARED_DIR } from './worker-pod.js';

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
  const before = Math.floor((listedAt - youngMs(rules)) / MINUTE_MS) * (MINUTE_MS / 1_000);
  const told = [...kept].map((digest) => digest.slice(0, TOLD_DIGITS)).toSorted();
  const pod = jobPod(
    {
      labels: sweepLabels(owner),
      seconds: LONGEST_SECONDS,
      securityContext: CLAIM_USER,
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
    config,
    ownerUid,
  );
  // A pod can't be changed: another image, say, makes another one.
  const digits = createHash('sha256').update(JSON.stringify(pod)).digest('hex').slice(0, NAME_DIGITS);
  return named(pod, `faas-sweep-${digits}`);
}
