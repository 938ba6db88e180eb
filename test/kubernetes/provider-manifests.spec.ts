import { describe, expect, it } from 'vitest';
import type { KubernetesConfig } from '#libs/config/config.js';
import { loadConfig } from '#libs/config/load-config.js';
import { TEST_TOKENS } from '#libs/orchestrator/testing/tokens.js';
import type { Workload } from '#libs/orchestrator/workload.js';
import { manifestsFor } from '#libs/orchestrator-kubernetes/manifests.js';
import { poolOwner, type PoolPlacement, poolPod } from '#libs/orchestrator-kubernetes/pool-pod.js';
import { whyNoControlPlane } from './control-plane/shared.js';
import { DryRun } from './support/dry-run.js';

const WORKLOAD: Workload = {
  functionId: 'abcdefghijklmnop',
  revision: 7,
  functionName: 'greet',
  code: Buffer.from('def greet(payload):\n    return "ü"\n'),
  codeSha256: '0'.repeat(64),
  replicas: 1,
  limits: { timeoutMs: 1_500, concurrency: 4, memoryMiB: 512, cpuMillis: 500, pids: 32 },
};

const { kubernetes: CONFIG } = loadConfig({}).orchestrator;

const { workerPods: ADDED } = loadConfig({
  KUBERNETES_WORKER_PODS: JSON.stringify({
    nodeSelector: { 'kubernetes.io/arch': 'amd64' },
    tolerations: [{ key: 'functions', operator: 'Exists', effect: 'NoSchedule' }],
    affinity: { podAntiAffinity: {} },
    topologySpreadConstraints: [
      { maxSkew: 2, topologyKey: 'topology.kubernetes.io/zone', whenUnsatisfiable: 'ScheduleAnyway' },
    ],
    labels: { team: 'functions' },
    annotations: { 'example.com/note': 'ours' },
  }),
}).orchestrator.kubernetes;

const POOL_PLACEMENT = { owner: 'me', config: CONFIG, limits: WORKLOAD.limits };

function pooled(placement: PoolPlacement): object {
  return poolPod('faas-pool-1', 'f'.repeat(64), 30_000, TEST_TOKENS.issue(), placement, 'uid-of-owner');
}

function made(workload: Partial<Workload> = {}, config: Partial<KubernetesConfig> = {}): object[] {
  const placement = { owner: 'me', spec: 'hash', config: { ...CONFIG, ...config }, tokens: TEST_TOKENS };
  return Object.values(manifestsFor({ ...WORKLOAD, ...workload }, placement)).filter((object) => object !== undefined);
}

describe.skipIf(whyNoControlPlane() !== undefined)('What a function becomes on a cluster', () => {
  const dryRun = DryRun.on();

  it.each<[string, object[], number]>([
    ['by default', made(), 4],
    ['without an autoscaler', made({}, { autoscale: { ...CONFIG.autoscale, maxReplicas: 1 } }), 3],
    ['without any replica', made({ replicas: 0 }), 4],
    ['with a runtime class and a pull secret', made({}, { runtimeClass: 'gvisor', imagePullSecret: 'registry' }), 4],
    ['with what an installation adds to its pods', made({}, { workerPods: ADDED }), 4],
    [
      'of the pool with what an installation adds',
      [
        pooled({
          ...POOL_PLACEMENT,
          config: { ...CONFIG, workerPods: ADDED, poolPriorityClass: 'system-node-critical' },
        }),
      ],
      1,
    ],
    ['that is pulled anew each time', made({}, { imagePullPolicy: 'Always' }), 4],
    [
      'with the smallest limits',
      made({ limits: { ...WORKLOAD.limits, memoryMiB: 32, cpuMillis: 10, timeoutMs: 1 } }),
      4,
    ],
    ['of the pool', [pooled(POOL_PLACEMENT), poolOwner('functions')], 2],
    ['with the largest', made({ limits: { ...WORKLOAD.limits, memoryMiB: 1_048_576, cpuMillis: 1_024_000 } }), 4],
  ])('%s is what the API server takes, with no field beyond', async (_what, objects, count) => {
    expect(objects).toHaveLength(count);
    for (const object of objects) expect(await dryRun.refusalOf(object), JSON.stringify(object)).toBeUndefined();
  });
});
