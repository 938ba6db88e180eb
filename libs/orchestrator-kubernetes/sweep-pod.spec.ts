import { describe, expect, it } from 'vitest';
import { loadConfig } from '#libs/config/load-config.js';
import { podTemplate } from './pod-template.js';
import { sweepPod } from './sweep-pod.js';
import { placementOf, workloadOf } from './testing/objects.js';

function podFor(...kept: string[]) {
  const { layers, orchestrator } = loadConfig({ WORKER_IMAGE: 'worker:1' });
  const place = { owner: 'me', config: orchestrator.kubernetes, rules: layers };
  return sweepPod(new Set(kept), 'shared', place, 'uid');
}

describe('sweepPod', () => {
  it('is one between managers that want the same, and another for anything else', () => {
    const [a, b] = ['a'.repeat(64), 'b'.repeat(64)];
    expect(podFor(a, b)).toEqual(podFor(b, a));
    expect(podFor(a).metadata?.name).not.toBe(podFor(b).metadata?.name);
  });

  it('is walled in as a worker’s pod is, and has bounds for memory, disk and time', () => {
    const worker = podTemplate(workloadOf(), placementOf()).spec!;
    const { spec } = podFor();
    const [container] = spec!.containers;
    const { serviceAccountName, automountServiceAccountToken, enableServiceLinks, securityContext } = worker;
    expect(spec).toMatchObject({
      serviceAccountName,
      automountServiceAccountToken,
      enableServiceLinks,
      securityContext,
      restartPolicy: 'Never',
      activeDeadlineSeconds: expect.any(Number),
    });
    expect(container?.securityContext).toMatchObject(worker.containers[0]!.securityContext!);
    expect(container?.resources?.limits).toMatchObject({ memory: expect.any(String), cpu: expect.any(String) });
  });

  it('has the claim and nothing else, and is no worker or build to any policy', () => {
    const { metadata, spec } = podFor();
    expect(spec?.volumes).toEqual([{ name: 'layers', persistentVolumeClaim: { claimName: 'shared' } }]);
    expect(spec?.containers[0]).not.toHaveProperty('env');
    expect(metadata?.labels).toMatchObject({ app: 'faas-layers', 'faas.owner': 'me', 'faas.build': 'true' });
  });

  it('tells its program enough of thousands of digests, in less than an object may have', () => {
    const kept = Array.from({ length: 20_000 }, (_, number) => number.toString(16).padStart(64, '0'));
    expect(JSON.stringify(podFor(...kept)).length).toBeLessThan(1024 * 1024);
  });
});
