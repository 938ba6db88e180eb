import { describe, expect, it } from 'vitest';
import type { V1PodSpec } from '@kubernetes/client-node';
import { loadConfig } from '#libs/config/load-config.js';
import { oneTimeToken } from '#libs/orchestrator/generic-worker.js';
import { TEST_TOKENS } from '#libs/orchestrator/testing/tokens.js';
import { poolPod } from './pool-pod.js';
import { podTemplate } from './pod-template.js';
import { placementOf, wallsOf, workloadOf } from './testing/objects.js';

const { token, sha256 } = oneTimeToken();
const call = TEST_TOKENS.issue();
const made = (changes: Parameters<typeof placementOf>[0] = {}) => {
  const placement = { owner: 'me', config: placementOf(changes).config, limits: workloadOf().limits };
  return poolPod('faas-pool-1', sha256, 30_000, call, placement, 'uid-of-owner');
};

/** What keeps a worker from doing harm. */
const walls = (spec: V1PodSpec) => {
  const containers = spec.containers.map(({ image, securityContext: own, resources }) => ({ image, own, resources }));
  return {
    ...wallsOf(spec),
    runtimeClassName: spec.runtimeClassName,
    hostUsers: spec.hostUsers,
    containers,
  };
};

describe('poolPod', () => {
  it('has room of its own for packages, where there are some to fetch', () => {
    const volumes = (changes = {}) => made(changes).spec!.volumes?.map(({ name }) => name);
    expect(volumes()).toEqual(['secrets', 'tmp']);
    const env = { LAYERS_ADDR: ':8081', LAYERS_URL: 'http://manager:8081', MAX_LAYER_MIB: '100' };
    const { layers } = loadConfig(env);
    expect(volumes({ layers })).toEqual(['secrets', 'layer', 'tmp']);
    const { volumes: [, packages] = [], containers } = made({ layers }).spec!;
    expect(packages?.emptyDir?.sizeLimit).toMatch(/^\d+Mi$/);
    expect(containers[0]?.volumeMounts).toContainEqual({ name: 'layer', mountPath: '/layers' });
    expect(parseInt(containers[0]?.resources?.limits?.['ephemeral-storage'] ?? '')).toBeGreaterThan(612);
  });

  it('has a shared claim for reading, and its own room for what isn’t in it yet', () => {
    const { layers } = loadConfig({ LAYERS_ADDR: ':8081', LAYERS_URL: 'http://manager:8081' });
    const { volumes, containers } = made({ layers, layersClaim: 'shared' }).spec!;
    expect(volumes).toContainEqual({
      name: 'layers',
      persistentVolumeClaim: { claimName: 'shared', readOnly: true },
    });
    expect(containers[0]?.volumeMounts).toContainEqual({ name: 'layers', mountPath: '/layers', readOnly: true });
    expect(containers[0]?.volumeMounts).toContainEqual({ name: 'layer', mountPath: '/fetched' });
    expect(containers[0]?.env).toContainEqual({ name: 'FAAS_LAYERS_DIR', value: '/fetched' });
  });

  it('is walled in and bounded as a function’s own pod is', () => {
    const changes = { runtimeClass: 'gvisor', workerServiceAccount: 'nobody', hostUsers: false };
    expect(walls(made(changes).spec!)).toEqual(walls(podTemplate(workloadOf(), placementOf(changes)).spec!));
  });

  it('knows no more of its token than its digest', () => {
    expect(JSON.stringify(made())).not.toContain(token);
    expect(made().spec!.containers[0]!.env).toContainEqual({ name: 'FAAS_SPECIALISE_SHA256', value: sha256 });
  });

  it('is told how many processes and threads there may be in it', () => {
    const { pids } = workloadOf().limits;
    expect(made().spec!.containers[0]!.env).toContainEqual({ name: 'FAAS_MOST_TASKS', value: String(pids) });
  });

  it('has no probe, which would fail before its worker listens and leave Unhealthy events', () => {
    expect(Object.keys(made().spec!.containers[0]!).filter((key) => key.endsWith('Probe'))).toEqual([]);
  });

  it('never starts anew, when a function may have run in it', () => {
    expect(made().spec!.restartPolicy).toBe('Never');
  });

  it('is no function’s to any selector of one, with a function’s labels or without', () => {
    const { labels } = made().metadata!;
    expect(labels).toMatchObject({ app: 'faas-worker', 'faas.pool': 'true', 'faas.owner': 'me' });
    expect(Object.keys(labels!)).not.toContain('func');
    expect(labels!['app.kubernetes.io/component']).toBe('pool');
  });

  it('may take as long to leave as the longest call', () => {
    expect(made().spec!.terminationGracePeriodSeconds).toBeGreaterThan(3_600);
  });
});
