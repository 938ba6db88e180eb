import type { V1Container } from '@kubernetes/client-node';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { KubernetesConfig } from '#libs/config/config.js';
import type { WorkloadLimits } from '#libs/orchestrator/workload.js';
import { TEST_TOKENS } from '#libs/orchestrator/testing/tokens.js';
import { podTemplate } from './pod-template.js';
import { placementOf, workloadOf } from './testing/objects.js';
import { layerPath } from './worker-pod.js';

const podWith = (limits: Partial<WorkloadLimits> = {}, config: Partial<KubernetesConfig> = {}) => {
  const workload = workloadOf({ limits: { ...workloadOf().limits, ...limits } });
  return podTemplate(workload, placementOf(config)).spec!;
};
const workerOf = (...given: Parameters<typeof podWith>): V1Container => podWith(...given).containers[0]!;

const limits = fc.record({
  timeoutMs: fc.integer({ min: 1, max: 3_600_000 }),
  concurrency: fc.integer({ min: 1, max: 1_000 }),
  memoryMiB: fc.integer({ min: 32, max: 1_048_576 }),
  cpuMillis: fc.integer({ min: 10, max: 1_024_000 }),
  pids: fc.integer({ min: 16, max: 32_768 }),
});

function millisOf(quantity = ''): number {
  if (quantity.endsWith('m')) return Number(quantity.slice(0, -1));
  return quantity.endsWith('k') ? Number(quantity.slice(0, -1)) * 1e6 : Number(quantity) * 1_000;
}

function mebibytesOf(quantity = ''): number {
  const power = ['Mi', 'Gi', 'Ti'].indexOf(quantity.slice(-2));
  return Number(quantity.slice(0, -2)) * 1024 ** power;
}

describe('podTemplate', () => {
  it('asks for 100m and 128Mi, bounded by 500m and 512Mi, and a little of the node’s disk', () => {
    expect(workerOf().resources).toEqual({
      requests: { cpu: '100m', memory: '128Mi', 'ephemeral-storage': '64Mi' },
      limits: { cpu: '500m', memory: '512Mi', 'ephemeral-storage': '512Mi' },
    });
  });

  it('never asks for more than it may use, which would be refused', () => {
    fc.assert(
      fc.property(limits, (some) => {
        const { requests, limits: most } = workerOf(some).resources!;
        expect(millisOf(most?.['cpu'])).toBe(some.cpuMillis);
        expect(mebibytesOf(most?.['memory'])).toBe(some.memoryMiB);
        expect(millisOf(requests?.['cpu'])).toBe(Math.min(100, some.cpuMillis));
        expect(mebibytesOf(requests?.['memory'])).toBe(Math.min(128, some.memoryMiB));
      }),
    );
  });

  it('fits the restricted profile, whatever the function asks for', () => {
    fc.assert(
      fc.property(limits, (some) => {
        const pod = podWith(some);
        expect(pod.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
        expect(pod.securityContext?.runAsUser).toBeGreaterThan(0);
        expect(pod.containers.map(({ securityContext }) => securityContext)).toEqual([
          { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } },
        ]);
        expect(pod.volumes?.flatMap((volume) => Object.keys(volume)).toSorted()).toEqual([
          'configMap',
          'emptyDir',
          'name',
          'name',
        ]);
        expect([pod.hostNetwork, pod.hostPID, pod.hostIPC, pod.initContainers]).toEqual(Array(4).fill(undefined));
        expect(pod.containers[0]?.ports?.some(({ hostPort }) => hostPort !== undefined)).toBe(false);
      }),
    );
  });

  it('gives the worker an account without rights, and neither a token nor others’ addresses', () => {
    expect(podWith()).toMatchObject({
      serviceAccountName: 'faas-worker',
      automountServiceAccountToken: false,
      enableServiceLinks: false,
    });
    expect(podWith({}, { workerServiceAccount: 'nobody' }).serviceAccountName).toBe('nobody');
  });

  it('leaves a leaving worker the time of its notice and of the longest call', () => {
    fc.assert(
      fc.property(limits, (some) => {
        const pod = podWith(some);
        const notice = pod.containers[0]!.lifecycle!.preStop!.sleep!.seconds;
        expect(notice).toBeGreaterThan(0);
        expect(Number.isInteger(pod.terminationGracePeriodSeconds)).toBe(true);
        expect((pod.terminationGracePeriodSeconds! - notice) * 1_000).toBeGreaterThan(some.timeoutMs);
      }),
    );
  });

  it('tells the worker what it serves, how long and how much at once', () => {
    expect(workerOf().env).toEqual(
      expect.arrayContaining([
        { name: 'HANDLER_FUNCTION', value: 'function.handler.greet' },
        { name: 'FAAS_TIMEOUT_MS', value: '1500' },
        { name: 'FAAS_CONCURRENCY', value: '4' },
        { name: 'FAAS_MOST_TASKS', value: String(workloadOf().limits.pids) },
      ]),
    );
  });

  it('tells the worker the digest of its token, and nobody the token', () => {
    const template = podTemplate(workloadOf(), placementOf());
    const call = TEST_TOKENS.issue(template.metadata?.annotations?.['faas.credential']);
    expect(template.spec!.containers[0]!.env).toContainEqual({ name: 'FAAS_CALL_SHA256', value: call.sha256 });
    expect(JSON.stringify(template)).not.toContain(call.token);
  });

  it('has one token for all revisions of a function, and another for each function', () => {
    const digestOf = (changes: Parameters<typeof workloadOf>[0]) =>
      podTemplate(workloadOf(changes), placementOf()).spec!.containers[0]!.env!.find(
        ({ name }) => name === 'FAAS_CALL_SHA256',
      )?.value;
    expect(digestOf({ revision: 8 })).toBe(digestOf({ revision: 7 }));
    expect(digestOf({ functionId: 'ponmlkjihgfedcba' })).not.toBe(digestOf({}));
  });

  it('mounts the code read-only where the worker looks for it, and room for files that counts as memory', () => {
    expect(workerOf().volumeMounts).toEqual([
      { name: 'code', mountPath: '/app/function', readOnly: true },
      { name: 'tmp', mountPath: '/tmp' },
    ]);
    expect(podWith().volumes?.[1]?.emptyDir).toEqual({ medium: 'Memory', sizeLimit: '64Mi' });
  });

  it('writes to nothing that has no bound', () => {
    for (const { emptyDir } of podWith().volumes ?? []) {
      if (emptyDir !== undefined) expect(emptyDir.sizeLimit).toMatch(/^\d+Mi$/);
    }
    expect(workerOf().securityContext?.readOnlyRootFilesystem).toBe(true);
  });

  it('has users of its own only where the cluster is said to have user namespaces', () => {
    expect(podWith()).not.toHaveProperty('hostUsers');
    expect(podWith({}, { hostUsers: false }).hostUsers).toBe(false);
  });

  it('is watched by three probes on /health, and lives no shorter than it may take to start', () => {
    const { startupProbe, readinessProbe, livenessProbe } = workerOf();
    for (const probe of [startupProbe, readinessProbe, livenessProbe]) {
      expect(probe?.httpGet).toEqual({ path: '/health', port: 8000, scheme: 'HTTP' });
    }
    expect(startupProbe!.periodSeconds! * startupProbe!.failureThreshold!).toBeGreaterThanOrEqual(60);
  });

  it('spreads over nodes, but rather has two on one than none', () => {
    expect(podWith().topologySpreadConstraints).toEqual([
      {
        maxSkew: 1,
        topologyKey: 'kubernetes.io/hostname',
        whenUnsatisfiable: 'ScheduleAnyway',
        labelSelector: { matchLabels: { app: 'faas-worker', func: workloadOf().functionId } },
      },
    ]);
  });

  it('has a runtime class, a pull secret and a pull policy only where they are configured', () => {
    expect(podWith()).not.toHaveProperty('runtimeClassName');
    expect(podWith()).not.toHaveProperty('imagePullSecrets');
    expect(workerOf()).toMatchObject({ image: 'worker:1', imagePullPolicy: 'IfNotPresent' });
    expect(podWith({}, { runtimeClass: 'gvisor', imagePullSecret: 'registry' })).toMatchObject({
      runtimeClassName: 'gvisor',
      imagePullSecrets: [{ name: 'registry' }],
    });
    expect(workerOf({}, { imagePullPolicy: 'Always' }).imagePullPolicy).toBe('Always');
  });

  describe('of a function with packages', () => {
    const layer = {
      digest: 'd'.repeat(64),
      url: 'http://manager/layers/d',
      token: 'the-token-of-the-layer',
      sha256: 'e'.repeat(64),
      bytes: 300 * 1024 * 1024,
      files: 1_000,
    };
    const pod = podTemplate(workloadOf(), { ...placementOf(), layer }).spec!;
    const [first] = pod.initContainers!;
    const [worker] = pod.containers;

    it('fetches them first, walled in and bounded as the worker is', () => {
      expect(pod.initContainers).toHaveLength(1);
      expect(first).toMatchObject({ image: 'worker:1', command: ['python3', '-m', 'faas_worker.fetched_layer'] });
      expect(first?.securityContext).toEqual(worker?.securityContext);
      expect(first?.resources).toEqual(worker?.resources);
      expect(first?.env).toContainEqual({ name: 'FAAS_LAYER_SHA256', value: layer.sha256 });
    });

    it('has the worker read them, and keeps from it what opens them', () => {
      expect(worker?.volumeMounts).toContainEqual({ name: 'layer', mountPath: '/layers', readOnly: true });
      expect(worker?.env).toContainEqual({ name: 'FAAS_LAYER', value: `/layers/${layer.digest}` });
      expect(JSON.stringify(worker)).not.toContain(layer.token);
      expect(first?.volumeMounts).toContainEqual({ name: 'layer', mountPath: '/layers' });
    });

    it('shares them in a claim, which another user fills and the worker may only read', () => {
      const shared = podTemplate(workloadOf(), { ...placementOf({ layersClaim: 'layers' }), layer }).spec!;
      const [filling] = shared.initContainers!;
      const [reading] = shared.containers;
      const path = { name: 'FAAS_LAYER', value: layerPath(layer, { layersClaim: 'layers' }) };
      // Nobody finds it who knows what is in it.
      expect(path.value).toMatch(new RegExp(`^/layers/packages/${layer.digest}-[0-9a-f]{32}$`));
      const [former, others] = [{ sha256: '0'.repeat(64) }, { token: 'another' }];
      for (const change of [former, others])
        expect(layerPath({ ...layer, ...change }, { layersClaim: 'layers' })).not.toBe(path.value);
      expect(shared.volumes).toContainEqual({ name: 'layer', persistentVolumeClaim: { claimName: 'layers' } });
      expect(filling?.env).toContainEqual(path);
      expect(reading?.env).toContainEqual(path);
      // Not even what a handler has left in its pod.
      expect(filling?.volumeMounts).toEqual([{ name: 'layer', mountPath: '/layers' }]);
      expect(reading?.volumeMounts).toContainEqual({ name: 'layer', mountPath: '/layers', readOnly: true });
      const { runAsUser, runAsGroup, ...walls } = filling!.securityContext!;
      expect(walls).toEqual(reading?.securityContext);
      expect(new Set([runAsUser, runAsGroup])).toEqual(new Set([shared.securityContext?.fsGroup]));
      expect(runAsUser).not.toBe(shared.securityContext?.runAsUser);
      // The claim's room is none of the node's.
      expect(reading?.resources).toEqual(podTemplate(workloadOf(), placementOf()).spec?.containers[0]?.resources);
    });

    it('asks its node for the room that they take, and for no more', () => {
      const { requests, limits: most } = worker!.resources!;
      const volume = pod.volumes?.find(({ name }) => name === 'layer')?.emptyDir?.sizeLimit;
      expect(mebibytesOf(volume)).toBeGreaterThan(300);
      expect(mebibytesOf(volume)).toBeLessThan(400);
      expect(mebibytesOf(requests?.['ephemeral-storage'])).toBe(64 + mebibytesOf(volume));
      expect(mebibytesOf(most?.['ephemeral-storage'])).toBe(512 + mebibytesOf(volume));
    });
  });
});
