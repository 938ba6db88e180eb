import type { V1Deployment } from '@kubernetes/client-node';
import { describe, expect, it } from 'vitest';
import { sweepLabels } from './labels.js';
import { isShortOfRoom } from './pool-pods.js';
import { podOf } from './testing/objects.js';

const UNSCHEDULABLE = {
  phase: 'Pending',
  conditions: [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: '0/1 nodes' }],
};

const failing = (message: string): V1Deployment => ({
  status: { conditions: [{ type: 'ReplicaFailure', status: 'True', message }] },
});

describe('isShortOfRoom', () => {
  it.each<[string, boolean, Parameters<typeof isShortOfRoom>]>([
    ['nothing is amiss', false, [[podOf()], [{ status: { conditions: [] } }]]],
    ['a function’s pod finds no node', true, [[podOf({ status: UNSCHEDULABLE })], []]],
    [
      'a pod of the pool finds none, which takes from nobody',
      false,
      [[podOf({ status: UNSCHEDULABLE, metadata: { labels: { 'faas.pool': 'true' } } })], []],
    ],
    [
      'one that cleans up finds none, which has time',
      false,
      [[podOf({ status: UNSCHEDULABLE, metadata: { labels: sweepLabels('me') } })], []],
    ],
    ['the quota is used up', true, [[], [failing('pods "x" is forbidden: exceeded quota: small')]]],
    ['a policy refuses pods, which room would not help', false, [[], [failing('violates PodSecurity')]]],
  ])('when %s: %s', (_what, short, given) => {
    expect(isShortOfRoom(...given)).toBe(short);
  });
});
