import type { V1Pod } from '@kubernetes/client-node';
import type { KubernetesConfig, LayersConfig } from '#libs/config/config.js';
import type { OneTimeToken } from '#libs/orchestrator/generic-worker.js';
import { largestArchive } from '#libs/orchestrator/layers.js';
import { jobPod, named } from './job-pod.js';
import { buildLabels } from './labels.js';
import { BUILDER, WORKER_PORT } from './names.js';
import { memoryQuantity } from './quantities.js';
import { hardening, POD_USER } from './worker-pod.js';

const BUILD_DIR = '/build';
const MIB = 1024 * 1024;
/** For uv's cache, what it unpacks, the layer and its archive. */
const COPIES = 4;
/** Beyond a build's own time: its pod starts before it and hands out its result after it. */
export const BUILD_MARGIN_MS = 180_000;
const CPU = { request: '250m', limit: '2' };
const MEMORY_REQUEST_MIB = 256;

/**
 * Where one layer is built: hardened as workers are, with nothing of a function or a manager, and without the index's
 * login, which its manager tells it. The node ends it when nobody else does.
 */
export function buildPod(
  name: string,
  sha256: OneTimeToken['sha256'],
  { owner, config, rules }: { owner: string; config: KubernetesConfig; rules: LayersConfig },
  ownerUid: string,
): V1Pod {
  const disk = memoryQuantity(Math.ceil((COPIES * largestArchive(rules)) / MIB) + 64);
  const memory = memoryQuantity(rules.memoryMiB);
  const pod = jobPod(
    {
      labels: buildLabels(owner),
      seconds: Math.ceil((rules.timeoutMs + BUILD_MARGIN_MS) / 1_000),
      securityContext: POD_USER,
      containers: [
        {
          name: BUILDER,
          image: rules.image,
          imagePullPolicy: config.imagePullPolicy,
          command: ['python3', '-m', 'faas_builder.server', BUILD_DIR],
          ports: [{ name: 'http', containerPort: WORKER_PORT, protocol: 'TCP' }],
          env: [
            { name: 'FAAS_BUILD_SHA256', value: sha256 },
            { name: 'HOME', value: BUILD_DIR },
            { name: 'TMPDIR', value: BUILD_DIR },
          ],
          resources: {
            requests: {
              cpu: CPU.request,
              memory: memoryQuantity(Math.min(MEMORY_REQUEST_MIB, rules.memoryMiB)),
              'ephemeral-storage': memoryQuantity(64),
            },
            limits: { cpu: CPU.limit, memory, 'ephemeral-storage': disk },
          },
          securityContext: hardening(),
          terminationMessagePolicy: 'FallbackToLogsOnError',
          volumeMounts: [
            { name: 'build', mountPath: BUILD_DIR },
            { name: 'tmp', mountPath: '/tmp' },
          ],
        },
      ],
      volumes: [
        { name: 'build', emptyDir: { sizeLimit: disk } },
        { name: 'tmp', emptyDir: { medium: 'Memory', sizeLimit: '64Mi' } },
      ],
    },
    config,
    ownerUid,
  );
  return named(pod, name);
}
