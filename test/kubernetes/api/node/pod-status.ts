import { type Fields, fields, list } from '../rules/fields.js';
import { type StoredObject, timestamp } from '../store/objects.js';
import { type Condition, conditionOf } from '../controllers/types.js';
import type { Exit } from './container-run.js';

export interface Terminated extends Exit {
  readonly containerID: string;
  readonly message?: string;
}

/** What the kubelet knows of one container of a pod. */
export interface ContainerView {
  readonly name: string;
  readonly image: string;
  readonly state:
    | { readonly kind: 'waiting'; readonly reason: string; readonly message?: string }
    | { readonly kind: 'running'; readonly startedAt: Date }
    | { readonly kind: 'terminated'; readonly exit: Terminated };
  readonly last: Terminated | undefined;
  readonly containerID: string | undefined;
  readonly restarts: number;
  readonly started: boolean;
  readonly ready: boolean;
}

/** The pod's status out of its containers'. Times of conditions stay while they don't change. */
export function podStatus(
  pod: StoredObject,
  podIP: string | undefined,
  startTime: string,
  views: readonly ContainerView[],
) {
  const before = fields(pod.status);
  const unready = views.filter(({ ready }) => !ready).map(({ name }) => name);
  const areReady = unready.length === 0;
  const why = areReady
    ? {}
    : { reason: 'ContainersNotReady', message: `containers with unready status: [${unready.join(' ')}]` };
  const condition = (type: string, status: boolean, more: object = {}) => conditionFor(pod, type, status, more);
  const kept = list(before['conditions']).filter(({ type }) => type === 'DisruptionTarget');
  return {
    ...before,
    observedGeneration: pod.metadata.generation,
    phase: phaseOf(pod, views),
    conditions: [
      ...kept,
      condition('PodReadyToStartContainers', podIP !== undefined),
      condition('Initialized', true),
      condition('Ready', areReady, why),
      condition('ContainersReady', areReady, why),
      condition('PodScheduled', true),
    ],
    hostIP: '127.0.0.1',
    hostIPs: [{ ip: '127.0.0.1' }],
    ...(podIP === undefined ? {} : { podIP, podIPs: [{ ip: podIP }] }),
    startTime,
    containerStatuses: views.map(containerStatus),
  };
}

function phaseOf(pod: StoredObject, views: readonly ContainerView[]): string {
  if (!views.some(({ state, last }) => state.kind !== 'waiting' || last !== undefined)) return 'Pending';
  const codes = views.map(({ state }) => (state.kind === 'terminated' ? state.exit.exitCode : undefined));
  const { restartPolicy } = fields(pod.spec);
  if (codes.includes(undefined) || restartPolicy === 'Always') return 'Running';
  if (codes.every((code) => code === 0)) return 'Succeeded';
  return restartPolicy === 'Never' ? 'Failed' : 'Running';
}

function conditionFor(pod: StoredObject, type: string, status: boolean, more: object): object {
  const known: Condition | undefined = conditionOf(pod, type);
  const text = status ? 'True' : 'False';
  const lastTransitionTime = known?.status === text ? known.lastTransitionTime : undefined;
  return { type, status: text, lastProbeTime: null, lastTransitionTime: lastTransitionTime ?? timestamp(), ...more };
}

function containerStatus(view: ContainerView): Fields {
  const { name, image, state, last, containerID, restarts, started, ready } = view;
  return {
    name,
    state: stateOf(state),
    lastState: last === undefined ? {} : { terminated: terminated(last) },
    ready,
    restartCount: restarts,
    image,
    imageID:
      containerID === undefined ? '' : `sha256:${Buffer.from(image).toString('hex').slice(0, 64).padEnd(64, '0')}`,
    ...(containerID === undefined ? {} : { containerID }),
    started,
  };
}

function stateOf(state: ContainerView['state']): object {
  switch (state.kind) {
    case 'waiting': {
      const { reason, message } = state;
      return { waiting: { reason, ...(message === undefined ? {} : { message }) } };
    }
    case 'running':
      return { running: { startedAt: timestamp(state.startedAt) } };
    case 'terminated':
      return { terminated: terminated(state.exit) };
  }
}

function terminated({ exitCode, reason, message, startedAt, finishedAt, containerID }: Terminated): object {
  return {
    exitCode,
    reason,
    ...(message === undefined || message === '' ? {} : { message }),
    startedAt: timestamp(startedAt),
    finishedAt: timestamp(finishedAt),
    containerID,
  };
}
