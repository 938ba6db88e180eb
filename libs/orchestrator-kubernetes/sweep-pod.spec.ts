import { describe, expect, it } from 'vitest';
import { loadConfig } from '#libs/config/load-config.js';
import { podTemplate } from './pod-template.js';
import { sweepPod } from './sweep-pod.js';
import { placementOf, wallsOf, workloadOf } from './testing/objects.js';

const NOW = Date.parse('2026-01-01T12:00:30Z');

function podFor(kept: readonly string[] = [], { now = NOW, image = 'worker:1' } = {}) {
  const { layers, orchestrator } = loadConfig({ WORKER_IMAGE: image });
  const place = { owner: 'me', config: orchestrator.kubernetes, rules: layers };
  return sweepPod(new Set(kept), 'shared', place, 'uid', now);
}

describe('sweepPod', () => {
  it('is one between managers that want the same, and another for anything else', () => {
    const [a, b] = ['a'.repeat(64), 'b'.repeat(64)] as const;
    expect(podFor([a, b])).toEqual(podFor([b, a], { now: NOW + 29_000 }));
    const others = [podFor([b]), podFor([a], { now: NOW + 60_000 }), podFor([a], { image: 'worker:2' })];
    const names = new Set([podFor([a]), ...others].map(({ metadata }) => metadata?.name));
    expect(names.size).toBe(4);
  });

  it('spares what was used since a while before it was known what is kept, whenever it runs', () => {
    const [, , , , before] = podFor().spec!.containers[0]!.command!;
    expect(NOW / 1_000 - Number(before)).toBeGreaterThan(600);
    expect(NOW / 1_000 - Number(before)).toBeLessThan(3_600);
  });

  it('is walled in as a worker’s pod is, and has bounds for memory, disk and time', () => {
    const worker = podTemplate(workloadOf(), placementOf()).spec!;
    const { spec } = podFor();
    const [container] = spec!.containers;
    expect(spec).toMatchObject({
      ...wallsOf(worker),
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
    expect(JSON.stringify(podFor(kept)).length).toBeLessThan(1024 * 1024);
  });
});
