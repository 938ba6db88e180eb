import type { V1ContainerStateWaiting, V1Deployment, V1Pod, V1PodCondition } from '@kubernetes/client-node';
import { faultFor, type WorkloadFault } from '#libs/orchestrator/workload.js';
import { LAYER_CONTAINER } from './names.js';
import type { Replica } from './replica.js';

const IMAGE_REASONS = new Set([
  'ErrImagePull',
  'ImagePullBackOff',
  'InvalidImageName',
  'ErrImageNeverPull',
  'ImageInspectError',
  'RegistryUnavailable',
  'SignatureValidationFailed',
]);
const REFUSED_REASONS = new Set(['CreateContainerConfigError', 'CreateContainerError', 'RunContainerError']);

/** Why the engine makes no pods of a Deployment: quota, admission, a ServiceAccount that isn't there. */
export function replicaFailure(deployment: V1Deployment | undefined): WorkloadFault | undefined {
  // What it says of the spec before this one is over.
  if ((deployment?.status?.observedGeneration ?? 0) < (deployment?.metadata?.generation ?? 0)) return undefined;
  const conditions = deployment?.status?.conditions ?? [];
  const failure = conditions.find(({ type, status }) => type === 'ReplicaFailure' && status === 'True');
  if (failure === undefined) return undefined;
  return {
    code: 'rejected',
    message: `Kubernetes refuses the worker: ${failure.message ?? failure.reason ?? 'it does not say why'}`,
    terminal: false,
    at: moment(failure.lastTransitionTime),
  };
}

/** Why a pod that exists doesn't run yet. `patienceMs`: how long a pod may wait for a machine, as a new one may be on its way. */
export function waitingFault({ pod, status }: Replica, patienceMs: number, now: Date): WorkloadFault | undefined {
  const condition = unscheduled(pod);
  if (condition !== undefined) return unschedulable(condition, patienceMs, now);
  const first = pod.status?.initContainerStatuses?.find(({ name }) => name === LAYER_CONTAINER);
  const waiting = (first?.ready === false ? first.state?.waiting : undefined) ?? status?.state?.waiting;
  const reason = waiting?.reason ?? '';
  const at = moment(pod.metadata?.creationTimestamp);
  const message = [reason, waiting?.message].filter(Boolean).join(': ');
  const image = imageFault(waiting);
  if (image !== undefined) {
    return { code: 'image_unavailable', message: `The worker's image can't be had: ${image}`, terminal: false, at };
  }
  // A first try that failed is no fault while the next one is under way.
  const former = first?.state?.running === undefined ? first?.lastState?.terminated : undefined;
  const unfetched = first?.state?.terminated ?? former;
  if (first?.ready === false && unfetched !== undefined && unfetched.exitCode !== 0) {
    const said = (unfetched.message ?? '').trim().split('\n').at(-1) ?? '';
    const why = said === '' ? `status ${unfetched.exitCode}` : said;
    const message = `The function's packages did not get to the worker: ${why}`;
    return { code: 'worker_crashed', message, terminal: false, at: moment(unfetched.finishedAt) };
  }
  if (REFUSED_REASONS.has(reason)) {
    return { code: 'rejected', message: `The worker can't be started: ${message}`, terminal: false, at };
  }
  return undefined;
}

/** Why an image isn't there, as a container that waits for it tells. */
export function imageFault(waiting: V1ContainerStateWaiting | undefined): string | undefined {
  const { reason = '', message } = waiting ?? {};
  return IMAGE_REASONS.has(reason) ? [reason, message].filter(Boolean).join(': ') : undefined;
}

/** What the scheduler says of a pod that no node has room for. */
export function unscheduled({ status }: V1Pod): V1PodCondition | undefined {
  const scheduled = status?.conditions?.find(({ type }) => type === 'PodScheduled');
  return scheduled?.status === 'False' && scheduled.reason === 'Unschedulable' ? scheduled : undefined;
}

function unschedulable(condition: V1PodCondition, patienceMs: number, now: Date): WorkloadFault {
  const at = moment(condition.lastTransitionTime);
  const message = `No node has room for the worker: ${condition.message ?? 'the scheduler does not say why'}`;
  const code = now.getTime() - at.getTime() < patienceMs ? 'starting' : 'unschedulable';
  return { code, message, terminal: false, at };
}

/** The client's types say `Date`, the API's JSON says it in a string. */
export function moment(time: Date | string | undefined): Date {
  return new Date(time ?? Date.now());
}

/**
 * The most telling first: terminal before passing, faults before progress, newer before older. `hasServed`: a replica of
 * the same revision is ready, or has been, so whatever kept another from loading the code is not the code.
 */
export function ranked(faults: readonly WorkloadFault[], hasServed: boolean): WorkloadFault[] {
  return faults
    .map((fault) => faultFor({ hasServed }, fault))
    .toSorted((a, b) => weight(b) - weight(a) || b.at.getTime() - a.at.getTime());
}

function weight({ terminal, code }: WorkloadFault): number {
  if (terminal) return 2;
  return code === 'starting' ? 0 : 1;
}
