import type { V1Deployment } from '@kubernetes/client-node';
import { describe, expect, it } from 'vitest';
import type { WorkloadFault } from '#libs/orchestrator/workload.js';
import { observedOf } from './observe.js';
import { replicasOf } from './replica.js';
import { at, podOf, type PodWish, workloadOf } from './testing/objects.js';

const deployment = (replicas: number, spec = 'hash'): V1Deployment => ({
  metadata: { name: 'faas-worker-x', labels: { 'faas.spec': spec }, creationTimestamp: at('2026-06-01T11:00:00Z') },
  spec: { replicas } as never,
});

function observe(
  pods: readonly PodWish[],
  { wanted = 1, faults = [] as WorkloadFault[], of = deployment(wanted) } = {},
) {
  const made = pods.map((wish, index) => podOf({ name: `p${index}`, ...wish }));
  const slices = [
    {
      addressType: 'IPv4',
      endpoints: made.map(({ metadata }) => ({ addresses: [], targetRef: { kind: 'Pod', name: metadata!.name! } })),
    },
  ];
  const replicas = replicasOf(made, slices);
  return observedOf({ workload: workloadOf({ replicas: wanted }), spec: 'hash', deployment: of, replicas, faults });
}

const LEAVING = { metadata: { deletionTimestamp: at('2026-06-01T12:00:05Z') } } as const;

describe('observedOf', () => {
  it('tells of a function that is as wanted, without a reason', () => {
    expect(observe([{}])).toEqual({
      replicas: 1,
      ready: 1,
      endpoints: [{ replica: 'p0/0123456789ab', address: { kind: 'tcp', host: '10.0.0.5', port: 8000 } }],
      primary: 'faas-worker-x',
      hostPort: 80,
    });
  });

  it('says that replicas are on their way, and what the container waits for', () => {
    const waiting = { ready: false, state: { waiting: { reason: 'ContainerCreating' } } };
    expect(observe([{}, waiting], { wanted: 2 })).toMatchObject({
      replicas: 2,
      ready: 1,
      reason: { code: 'starting', terminal: false, message: expect.stringContaining('ContainerCreating') },
    });
  });

  it('counts pods that the Deployment is bound to make', () => {
    expect(observe([], { wanted: 3 })).toMatchObject({ replicas: 3, ready: 0, endpoints: [] });
    expect(observe([], { wanted: 3, of: deployment(3, 'former') }).replicas).toBe(0);
  });

  it('sends calls to both specs while the Deployment rolls, and counts the wanted one’s', () => {
    const seen = observe([{ spec: 'former' }, {}], { wanted: 2 });
    expect(seen).toMatchObject({ ready: 1, replicas: 2 });
    expect(seen.endpoints.map(({ replica }) => replica.slice(0, 2))).toEqual(['p0', 'p1']);
  });

  it('sends no calls to leaving and ended pods, nor counts them', () => {
    const evicted = { status: { phase: 'Failed', reason: 'Evicted' } as never };
    const seen = observe([LEAVING, evicted], { wanted: 0, of: deployment(0) });
    expect(seen).toMatchObject({ replicas: 0, ready: 0, endpoints: [] });
  });

  it('sends no calls to a function that is to have no replicas', () => {
    expect(observe([{}], { wanted: 0, of: deployment(0) })).toMatchObject({ replicas: 1, endpoints: [] });
  });

  it('tells the most telling fault before any progress', () => {
    const fault: WorkloadFault = { code: 'rejected', message: 'No.', terminal: false, at: new Date(0) };
    expect(observe([{ ready: false }], { faults: [fault, { ...fault, message: 'Later.' }] }).reason).toBe(fault);
  });

  it('has nothing to name without a Deployment', () => {
    const seen = observedOf({ workload: workloadOf(), spec: 'hash', deployment: undefined, replicas: [], faults: [] });
    expect(seen).toMatchObject({ primary: '', hostPort: 0, replicas: 0 });
  });
});
