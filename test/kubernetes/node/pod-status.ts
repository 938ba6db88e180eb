import type { V1ContainerState, V1ContainerStatus, V1Pod, V1PodCondition, V1PodStatus } from '@kubernetes/client-node';
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

/**
 * The pod's status out of its containers'.
 * @param before the former one, whose times stay where a condition hasn't changed
 */
export function podStatus(
  pod: V1Pod,
  before: V1PodStatus | undefined,
  podIP: string,
  startTime: Date,
  views: readonly ContainerView[],
  first: readonly ContainerView[] = [],
): V1PodStatus {
  const unready = views.filter(({ ready }) => !ready).map(({ name }) => name);
  const isReady = unready.length === 0;
  const why = isReady
    ? {}
    : { reason: 'ContainersNotReady', message: `containers with unready status: [${unready.join(' ')}]` };
  const condition = (type: string, isTrue: boolean, more: object = {}): V1PodCondition => {
    const status = isTrue ? 'True' : 'False';
    const known = before?.conditions?.find((one) => one.type === type);
    const since = known?.status === status ? known.lastTransitionTime : undefined;
    return { type, status, lastTransitionTime: since ?? seconds(new Date()), ...more };
  };
  // Written by whoever disturbs the pod.
  const kept = (pod.status?.conditions ?? []).filter(({ type }) => type === 'DisruptionTarget');
  return {
    observedGeneration: pod.metadata?.generation,
    phase: first.every(hasEndedWell) ? phaseOf(pod, views) : 'Pending',
    conditions: [
      ...kept,
      condition('PodReadyToStartContainers', true),
      condition('Initialized', first.every(hasEndedWell)),
      condition('Ready', isReady, why),
      condition('ContainersReady', isReady, why),
      condition('PodScheduled', true),
    ],
    hostIP: '127.0.0.1',
    hostIPs: [{ ip: '127.0.0.1' }],
    podIP,
    podIPs: [{ ip: podIP }],
    startTime,
    ...(first.length > 0 && {
      initContainerStatuses: first.map((view) => ({ ...containerStatus(view), ready: hasEndedWell(view) })),
    }),
    containerStatuses: views.map(containerStatus),
  };
}

function hasEndedWell({ state }: ContainerView): boolean {
  return state.kind === 'terminated' && state.exit.exitCode === 0;
}

/** As precise as the API keeps times. */
export function seconds(time: Date): Date {
  return new Date(Math.floor(time.getTime() / 1000) * 1000);
}

function phaseOf(pod: V1Pod, views: readonly ContainerView[]): string {
  if (!views.some(({ state, last }) => state.kind !== 'waiting' || last !== undefined)) return 'Pending';
  const codes = views.map(({ state }) => (state.kind === 'terminated' ? state.exit.exitCode : undefined));
  const restartPolicy = pod.spec?.restartPolicy;
  if (codes.includes(undefined) || restartPolicy === 'Always') return 'Running';
  if (codes.every((code) => code === 0)) return 'Succeeded';
  return restartPolicy === 'Never' ? 'Failed' : 'Running';
}

function containerStatus(view: ContainerView): V1ContainerStatus {
  const { name, image, state, last, containerID, restarts, started, ready } = view;
  return {
    name,
    state: stateOf(state),
    lastState: last === undefined ? {} : { terminated: terminated(last) },
    ready,
    restartCount: restarts,
    image,
    imageID: '',
    containerID,
    started,
  };
}

function stateOf(state: ContainerView['state']): V1ContainerState {
  switch (state.kind) {
    case 'waiting':
      return { waiting: { reason: state.reason, message: state.message } };
    case 'running':
      return { running: { startedAt: state.startedAt } };
    case 'terminated':
      return { terminated: terminated(state.exit) };
  }
}

function terminated({ message, ...exit }: Terminated): NonNullable<V1ContainerState['terminated']> {
  return { ...exit, message: message === '' ? undefined : message };
}
