import type { V1EndpointConditions, V1EndpointSlice } from '@kubernetes/client-node';
import { describe, expect, it } from 'vitest';
import { podOf as replicaPod, replicasOf } from './replica.js';
import { at, podOf, type PodWish } from './testing/objects.js';

function slice(pods: readonly string[], conditions: V1EndpointConditions = {}, ip = '10.0.0.5'): V1EndpointSlice {
  return {
    addressType: ip.includes(':') ? 'IPv6' : 'IPv4',
    endpoints: pods.map((name) => ({ addresses: [ip], conditions, targetRef: { kind: 'Pod', name } })),
    ports: [{ name: 'http', port: 8000, protocol: 'TCP' }],
  };
}

const one = (wish: PodWish, slices = [slice(['a'])]) => replicasOf([podOf({ name: 'a', ...wish })], slices)[0]!;

describe('replicasOf', () => {
  it('calls a pod ready that runs, says so, and is in a slice', () => {
    expect(one({})).toMatchObject({
      ready: true,
      leaving: false,
      ended: false,
      spec: 'hash',
      id: 'a/0123456789ab',
      address: { kind: 'tcp', host: '10.0.0.5', port: 8000 },
    });
  });

  it.each<[string, V1EndpointConditions, boolean]>([
    ['ready', { ready: true }, true],
    ['of unknown readiness', {}, true],
    ['not ready', { ready: false }, false],
    ['terminating', { ready: true, terminating: true }, false],
    ['terminating but still serving', { ready: false, serving: true, terminating: true }, false],
  ])('takes the slice’s word for an endpoint that is %s', (_what, conditions, ready) => {
    expect(one({}, [slice(['a'], conditions)]).ready).toBe(ready);
  });

  it.each<[string, PodWish]>([
    ['is being deleted', { metadata: { deletionTimestamp: at('2026-06-01T12:00:05Z') } }],
    ['was restarted in place and isn’t ready yet', { ready: false }],
    ['has no address yet', { status: { podIP: undefined } }],
    ['waits', { state: { waiting: { reason: 'ContainerCreating' } } }],
    ['was evicted', { status: { phase: 'Failed', reason: 'Evicted' } }],
    ['is done', { status: { phase: 'Succeeded' } }],
  ])('gives no calls to a pod that %s, though a slice still has it', (_what, wish) => {
    expect(one(wish).ready).toBe(false);
  });

  it.each<[string, PodWish, boolean]>([
    ['is on its way out', { ready: false, metadata: { deletionTimestamp: at('2026-06-01T12:00:05Z') } }, true],
    ['has lost its readiness', { ready: false }, true],
    ['waits', { state: { waiting: { reason: 'ContainerCreating' } } }, false],
    ['was evicted', { status: { phase: 'Failed', reason: 'Evicted' } }, false],
  ])('knows of a pod that %s whether it may still answer what it was called for', (_what, wish, runs) => {
    expect(one(wish)).toMatchObject({ ready: false, runs });
  });

  it('finds a pod in any of several slices, and once in those of both address families', () => {
    const both = [slice(['b', 'a']), slice(['c']), slice(['a', 'b'], {}, 'fd00::5')];
    const replicas = replicasOf([podOf({ name: 'a' }), podOf({ name: 'c' }), podOf({ name: 'd' })], both);
    expect(replicas.map(({ name, ready }) => [name, ready])).toEqual([
      ['a', true],
      ['c', true],
      ['d', false],
    ]);
  });

  it('calls a pod of an IPv6 cluster by its address', () => {
    const { address } = one({ status: { podIP: 'fd00::5' } }, [slice(['a'], {}, 'fd00::5')]);
    expect(address).toEqual({ kind: 'tcp', host: 'fd00::5', port: 8000 });
  });

  it('takes nothing from slices without endpoints or of others than pods', () => {
    const empty = JSON.parse('{"addressType":"IPv4","endpoints":null}') as V1EndpointSlice;
    const foreign = slice(['a']);
    foreign.endpoints![0]!.targetRef = { kind: 'Node', name: 'a' };
    const nameless = slice(['a']);
    delete nameless.endpoints![0]!.targetRef;
    expect(one({}, [empty, foreign, nameless]).ready).toBe(false);
  });

  it('takes a container that was restarted in place for another replica of the same pod', () => {
    const restarted = podOf({ name: 'a' });
    restarted.status!.containerStatuses![0]!.containerID = 'containerd://fedcba9876543210';
    const ids = [podOf({ name: 'a' }), restarted].map((pod) => replicasOf([pod], [])[0]!.id);
    expect(new Set(ids).size).toBe(2);
    expect(ids.map(replicaPod)).toEqual(['a', 'a']);
  });

  it('looks at the worker’s container only, whatever was put beside it', () => {
    const pod = podOf({ name: 'a', ready: false });
    pod.status!.containerStatuses!.unshift({ ...pod.status!.containerStatuses![0]!, name: 'proxy', ready: true });
    expect(replicasOf([pod], [slice(['a'])])[0]!.ready).toBe(false);
  });

  it('puts the oldest first, and comes to the same order everywhere', () => {
    const named = (name: string, time: string) => podOf({ name, metadata: { name, creationTimestamp: at(time) } });
    const pods = [
      named('c', '2026-06-01T12:00:00Z'),
      named('b', '2026-06-01T12:00:00Z'),
      named('a', '2026-06-02T00:00:00Z'),
    ];
    const order = (some: typeof pods) => replicasOf(some, []).map(({ name }) => name);
    expect(order(pods)).toEqual(['b', 'c', 'a']);
    expect(order(pods.toReversed())).toEqual(['b', 'c', 'a']);
  });
});
