import type { V1ContainerStateWaiting, V1ContainerStatus, V1Deployment } from '@kubernetes/client-node';
import { describe, expect, it } from 'vitest';
import { replicasOf } from './replica.js';
import { at, podOf } from './testing/objects.js';
import { moment, ranked, replicaFailure, waitingFault } from './faults.js';
import type { WorkloadFault, WorkloadFaultCode } from '#libs/orchestrator/workload.js';

const NOW = new Date('2026-06-01T12:00:10Z');

const waiting = (state: V1ContainerStateWaiting) =>
  waitingFault(replicasOf([podOf({ ready: false, state: { waiting: state } })], [])[0]!, 5_000, NOW);

describe('waitingFault', () => {
  it.each([
    ['ErrImagePull', 'image_unavailable'],
    ['ImagePullBackOff', 'image_unavailable'],
    ['InvalidImageName', 'image_unavailable'],
    ['ErrImageNeverPull', 'image_unavailable'],
    ['SignatureValidationFailed', 'image_unavailable'],
    ['CreateContainerConfigError', 'rejected'],
    ['CreateContainerError', 'rejected'],
    ['RunContainerError', 'rejected'],
  ])('tells of %s as %s, with the cluster’s words', (reason, code) => {
    const fault = waiting({ reason, message: 'because of that' });
    expect(fault).toMatchObject({
      code,
      terminal: false,
      message: expect.stringContaining(`${reason}: because of that`),
    });
  });

  it('has one moment for one pod, so that its backing off isn’t counted again and again', () => {
    expect(waiting({ reason: 'ErrImagePull' })?.at).toEqual(waiting({ reason: 'ImagePullBackOff' })?.at);
  });

  it.each(['ContainerCreating', 'PodInitializing', 'CrashLoopBackOff', undefined])('finds no fault in %s', (reason) => {
    expect(waiting(reason === undefined ? {} : { reason })).toBeUndefined();
  });

  it('says why a function’s packages did not get to its worker', () => {
    const terminated = {
      exitCode: 1,
      message: 'Traceback\nThe packages did not come in time.\n',
      finishedAt: at('2026-06-01T12:00:03Z'),
    };
    const first = (state: V1ContainerStatus['state'], lastState?: V1ContainerStatus['lastState'], ready = false) => {
      const status = { name: 'layer', image: 'worker:1', imageID: '', ready, restartCount: 0, state, lastState };
      const pod = podOf({ ready: false, state: { waiting: { reason: 'PodInitializing' } } });
      const initContainerStatuses = [status as V1ContainerStatus];
      const [replica] = replicasOf([{ ...pod, status: { ...pod.status, initContainerStatuses } }], []);
      return waitingFault(replica!, 5_000, NOW);
    };
    const message = expect.stringMatching(/: The packages did not come in/) as string;
    const why = { code: 'worker_crashed', terminal: false, message };
    expect(first({ terminated })).toMatchObject(why);
    expect(first({ waiting: { reason: 'CrashLoopBackOff' } }, { terminated })).toMatchObject(why);
    expect(first({ waiting: { reason: 'ErrImagePull' } })).toMatchObject({ code: 'image_unavailable' });
    const running = { startedAt: at('2026-06-01T12:00:03Z') };
    expect(first({ running })).toBeUndefined();
    expect(first({ running }, { terminated })).toBeUndefined();
    expect(first({ terminated: { exitCode: 0 } }, { terminated }, true)).toBeUndefined();
  });

  const unscheduled = (since: string, reason = 'Unschedulable') => {
    const condition = {
      type: 'PodScheduled',
      status: 'False',
      reason,
      message: '0/3 nodes are available: 3 Insufficient cpu.',
      lastTransitionTime: at(since),
    };
    const pod = podOf({ ready: false, status: { conditions: [condition], containerStatuses: [] } });
    return waitingFault(replicasOf([pod], [])[0]!, 5_000, NOW);
  };

  it('lets a pod wait for a machine before it says that there is none', () => {
    expect(unscheduled('2026-06-01T12:00:06Z')).toMatchObject({ code: 'starting' });
    expect(unscheduled('2026-06-01T12:00:05Z')).toMatchObject({
      code: 'unschedulable',
      terminal: false,
      message: expect.stringContaining('3 Insufficient cpu'),
    });
  });

  it('finds no fault in a pod that a gate holds back', () => {
    expect(unscheduled('2026-06-01T11:00:00Z', 'SchedulingGated')).toBeUndefined();
  });
});

describe('replicaFailure', () => {
  const deployment = (changes: object = {}, generation = 1): V1Deployment => ({
    metadata: { generation },
    status: {
      observedGeneration: 1,
      conditions: [
        { type: 'Progressing', status: 'True' },
        {
          type: 'ReplicaFailure',
          status: 'True',
          reason: 'FailedCreate',
          message: 'exceeded quota: small',
          lastTransitionTime: at('2026-06-01T12:00:00Z'),
          ...changes,
        },
      ],
    },
  });

  it('tells why no pod is made, and since when', () => {
    expect(replicaFailure(deployment())).toEqual({
      code: 'rejected',
      message: 'Kubernetes refuses the worker: exceeded quota: small',
      terminal: false,
      at: new Date('2026-06-01T12:00:00Z'),
    });
    expect(replicaFailure(deployment({ message: undefined }))?.message).toContain('FailedCreate');
  });

  it.each([
    ['there is no Deployment', undefined],
    ['it has no status yet', {}],
    ['the failure is over', deployment({ status: 'False' })],
    ['it tells of the spec before', deployment({}, 2)],
  ])('tells nothing when %s', (_what, given) => expect(replicaFailure(given)).toBeUndefined());
});

describe('moment', () => {
  it('reads a time as JSON has it', () => {
    expect(moment('2026-06-01T12:00:00Z')).toEqual(new Date('2026-06-01T12:00:00Z'));
  });
});

const fault = (code: WorkloadFaultCode, second: number, terminal = false): WorkloadFault => ({
  code,
  message: `${code} at ${second}`,
  terminal,
  at: new Date(second * 1_000),
});

describe('ranked', () => {
  it('puts what can’t be helped first, then the newest, and progress last', () => {
    const order = ranked(
      [
        fault('starting', 9),
        fault('worker_crashed', 1),
        fault('out_of_memory', 2),
        fault('handler_not_loadable', 0, true),
      ],
      false,
    );
    expect(order.map(({ code }) => code)).toEqual([
      'handler_not_loadable',
      'out_of_memory',
      'worker_crashed',
      'starting',
    ]);
  });

  it('gives up no code that another replica runs, as when an import needs what is away for a moment', () => {
    const order = ranked([fault('handler_not_loadable', 0, true), fault('worker_crashed', 1)], true);
    expect(order.map(({ code, terminal }) => [code, terminal])).toEqual([
      ['worker_crashed', false],
      ['handler_not_loadable', false],
    ]);
  });
});
