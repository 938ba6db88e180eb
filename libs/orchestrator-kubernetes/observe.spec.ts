import type { V1Deployment, V1Pod } from '@kubernetes/client-node';
import { describe, expect, it } from 'vitest';
import type { WorkloadFault } from '#libs/orchestrator/workload.js';
import { observedOf, surplusPoolReplicas } from './observe.js';
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
      endpoints: [{ replica: 'p0/0123456789ab', address: { kind: 'tcp', host: '10.0.0.5', port: 8000 }, revision: 7 }],
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

  describe('with pods of the pool', () => {
    const fromPool = (spec: string, name: string) =>
      podOf({ name, spec, metadata: { name, labels: { 'faas.pool': 'true', 'faas.spec': spec } } });
    const own = (spec: string, name: string) => podOf({ name, spec });
    const look = (pods: readonly V1Pod[], wanted: number, slices: readonly string[]) => {
      const slice = {
        addressType: 'IPv4',
        endpoints: slices.map((name) => ({ addresses: [], targetRef: { kind: 'Pod', name } })),
      };
      const replicas = replicasOf(pods, [slice], (id) => !id.startsWith('silent'));
      const workload = workloadOf({ replicas: wanted });
      const seen = observedOf({ workload, spec: 'hash', deployment: deployment(wanted), replicas, faults: [] });
      const surplus = surplusPoolReplicas(workload, 'hash', replicas).map(({ name }) => name);
      return { ...seen, surplus, called: seen.endpoints.map(({ replica }) => replica.split('/')[0]) };
    };

    it.each<
      [string, { ready: number; replicas: number; called: string[]; surplus: string[] }, Parameters<typeof look>]
    >([
      [
        'calls one that answers while the function’s own pod starts',
        { ready: 1, replicas: 1, called: ['s'], surplus: [] },
        [[fromPool('hash', 's'), own('hash', 'o')], 1, []],
      ],
      [
        'calls none that doesn’t answer',
        { ready: 0, replicas: 1, called: [], surplus: [] },
        [[fromPool('hash', 'silent')], 1, []],
      ],
      [
        'lets it go when the function’s own pod is ready',
        { ready: 1, replicas: 1, called: ['o'], surplus: ['s'] },
        [[fromPool('hash', 's'), own('hash', 'o')], 1, ['o']],
      ],
      [
        'keeps it beside one own pod of two, and counts it for the other',
        { ready: 2, replicas: 2, called: ['o', 's'], surplus: [] },
        [[fromPool('hash', 's'), own('hash', 'o')], 2, ['o']],
      ],
      [
        'never counts it beyond what is wanted',
        { ready: 1, replicas: 2, called: ['s', 't'], surplus: [] },
        [[fromPool('hash', 's'), fromPool('hash', 't')], 1, []],
      ],
      [
        'calls one of the former spec until the wanted one is served',
        { ready: 0, replicas: 1, called: ['s'], surplus: [] },
        [[fromPool('former', 's'), own('hash', 'o')], 1, []],
      ],
      [
        'lets one of the former spec go when another serves the wanted one',
        { ready: 1, replicas: 1, called: ['t'], surplus: ['s'] },
        [[fromPool('former', 's'), fromPool('hash', 't')], 1, []],
      ],
      [
        'lets one of the former spec go when the former’s own pod serves, as while the next one can’t be loaded',
        { ready: 0, replicas: 1, called: ['o'], surplus: ['s'] },
        [[fromPool('former', 's'), own('former', 'o'), own('hash', 'p')], 1, ['o']],
      ],
      [
        'lets all go when none is wanted',
        { ready: 0, replicas: 0, called: [], surplus: ['s'] },
        [[fromPool('hash', 's')], 0, []],
      ],
    ])('%s', (_what, expected, given) => {
      expect(look(...given)).toMatchObject(expected);
    });
  });
});
