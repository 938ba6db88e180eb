import { describe, expect, it } from 'vitest';
import { loadConfig } from '#libs/config/load-config.js';
import { buildPod } from './build-pod.js';
import { podTemplate } from './pod-template.js';
import { placementOf, wallsOf, workloadOf } from './testing/objects.js';

const ENV = {
  BUILDER_IMAGE: 'builder:1',
  PYTHON_INDEX_URL: 'https://packages.example/simple',
  PYTHON_INDEX_USER: 'reader',
  PYTHON_INDEX_PASSWORD: 'pA55w0rd',
  BUILD_TIMEOUT_MS: '60000',
  BUILD_MEMORY_MIB: '700',
  MAX_LAYER_MIB: '100',
};

function podWith(env: Readonly<Record<string, string>> = {}) {
  const { layers, orchestrator } = loadConfig({ ...ENV, ...env });
  return buildPod('faas-build-1', 'digest', { owner: 'me', config: orchestrator.kubernetes, rules: layers }, 'uid');
}

describe('buildPod', () => {
  it('is walled in as a worker’s pod is', () => {
    const worker = podTemplate(workloadOf(), placementOf()).spec!;
    const { spec } = podWith();
    expect(spec).toMatchObject(wallsOf(worker));
    expect(spec?.containers.map((one) => one.securityContext)).toEqual([worker.containers[0]?.securityContext]);
    expect(spec?.volumes?.flatMap((volume) => Object.keys(volume)).toSorted()).toEqual([
      'emptyDir',
      'emptyDir',
      'name',
      'name',
    ]);
  });

  it('has bounds for memory, processor, disk and time, and is tried once', () => {
    const { spec } = podWith();
    const { limits } = spec!.containers[0]!.resources!;
    expect(limits).toMatchObject({ memory: '700Mi', cpu: expect.any(String), 'ephemeral-storage': expect.any(String) });
    for (const { emptyDir } of spec?.volumes ?? []) expect(emptyDir?.sizeLimit).toMatch(/^\d+Mi$/);
    expect(spec?.restartPolicy).toBe('Never');
    expect(spec?.activeDeadlineSeconds).toBeGreaterThan(60);
    expect(spec?.activeDeadlineSeconds).toBeLessThan(600);
  });

  it('knows neither the index nor its login, nor what lets it be given a job', () => {
    expect(JSON.stringify(podWith())).not.toMatch(/pA55w0rd|reader|packages\.example/);
    expect(podWith().spec?.containers[0]?.env).toContainEqual({ name: 'FAAS_BUILD_SHA256', value: 'digest' });
  });

  it('is no worker to any policy or selector of one, but its owner’s', () => {
    const { labels } = podWith().metadata!;
    expect(labels).toMatchObject({ app: 'faas-builder', 'faas.owner': 'me' });
    expect(labels).not.toHaveProperty('func');
    expect(labels).not.toHaveProperty('faas.function');
    expect(labels).not.toHaveProperty('faas.pool');
  });

  it('lies where workers may, since packages are built for their machines', () => {
    const placement = { nodeSelector: { 'kubernetes.io/arch': 'arm64' }, tolerations: [{ operator: 'Exists' }] };
    const { spec } = podWith({ KUBERNETES_WORKER_PODS: JSON.stringify({ ...placement, priorityClassName: 'high' }) });
    expect(spec).toMatchObject(placement);
    expect(spec).not.toHaveProperty('priorityClassName');
  });

  it('is made of the image for builds, with the pull secret and runtime of workers', () => {
    const { spec } = podWith({ KUBERNETES_IMAGE_PULL_SECRET: 'registry', KUBERNETES_RUNTIME_CLASS: 'gvisor' });
    expect(spec).toMatchObject({ imagePullSecrets: [{ name: 'registry' }], runtimeClassName: 'gvisor' });
    expect(spec?.containers[0]).toMatchObject({ image: 'builder:1', imagePullPolicy: 'IfNotPresent' });
  });
});
