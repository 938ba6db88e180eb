import type { V1Pod } from '@kubernetes/client-node';
import type { FunctionId, Workload } from '#libs/orchestrator/workload.js';

/** What tells our objects in the namespace from everything else, and from each other. */
export const LABEL = {
  owner: 'faas.owner',
  functionId: 'faas.function',
  revision: 'faas.revision',
  spec: 'faas.spec',
  /** On pods of the pool, also on those that have become a function's. */
  pool: 'faas.pool',
  /** On pods that build packages, and on those that sweep what pods share of them. */
  build: 'faas.build',
} as const;

/** Notes on a Deployment why its handler can't be loaded, so that no manager tries the same code again. */
export const FAULT_ANNOTATION = 'faas.fault';

/** On a function's Deployment: what it calls in its file. */
export const CALLABLE_ANNOTATION = 'faas.callable';

/** On a Deployment: names of the Secrets that only replicas of former specs need. */
export const FORMER_SECRETS_ANNOTATION = 'faas.former-secrets';

/** On pods that answer to a token: what it is made of, which is no secret. */
export const CREDENTIAL_ANNOTATION = 'faas.credential';

const NAMES = {
  function: 'faas-worker',
  pool: 'faas-worker',
  build: 'faas-builder',
  layers: 'faas-layers',
} as const;

/** What tools that know nothing of us show and select by: https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/ */
function commonLabels(instance: string, component: keyof typeof NAMES): Record<string, string> {
  return {
    'app.kubernetes.io/name': NAMES[component],
    'app.kubernetes.io/instance': instance,
    'app.kubernetes.io/component': component,
    'app.kubernetes.io/part-of': 'service-faas',
    'app.kubernetes.io/managed-by': 'service-faas',
  };
}

/** The selector of a function's pods; a Deployment's can never be changed. */
export function podSelector(functionId: FunctionId): Record<string, string> {
  return { app: 'faas-worker', func: functionId };
}

/** The selector of the pool's pods: never that of a function's, so that its Deployment, Service and autoscaler don't count them. */
export function poolSelector(): Record<string, string> {
  return { app: 'faas-worker', [LABEL.pool]: 'true' };
}

export function poolLabels(owner: string): Record<string, string> {
  return { ...commonLabels('pool', 'pool'), ...poolSelector(), [LABEL.owner]: owner };
}

/** Never those of workers: the policies of k8s/functions tell them apart. */
export function buildLabels(owner: string): Record<string, string> {
  return { ...commonLabels('build', 'build'), app: NAMES.build, [LABEL.build]: 'true', [LABEL.owner]: owner };
}

/** No policy of k8s/functions lets these call or be called. */
export function sweepLabels(owner: string): Record<string, string> {
  return { ...commonLabels('layers', 'layers'), app: NAMES.layers, [LABEL.build]: 'true', [LABEL.owner]: owner };
}

export function isSweep({ metadata }: Pick<V1Pod, 'metadata'>): boolean {
  return metadata?.labels?.['app'] === NAMES.layers;
}

/** Selects both, as list takes it. */
export function buildsOf(owner: string): string {
  return `${LABEL.owner}=${owner},${LABEL.build}`;
}

/** Give a pod of the pool to a function, for as long as the function's own pods aren't ready. */
export function functionLabels(workload: Workload, spec: string): Record<string, string> {
  return {
    [LABEL.functionId]: workload.functionId,
    [LABEL.revision]: String(workload.revision),
    [LABEL.spec]: spec,
  };
}

export function objectLabels(owner: string, functionId: FunctionId): Record<string, string> {
  return {
    ...commonLabels(functionId, 'function'),
    ...podSelector(functionId),
    [LABEL.owner]: owner,
    [LABEL.functionId]: functionId,
  };
}

export function podLabels(owner: string, workload: Workload, spec: string): Record<string, string> {
  return { ...objectLabels(owner, workload.functionId), ...functionLabels(workload, spec) };
}

/** A label selector as list and watch take it. */
export function ownedBy(owner: string, functionId?: FunctionId): string {
  return functionId === undefined
    ? `${LABEL.owner}=${owner}`
    : `${LABEL.owner}=${owner},${LABEL.functionId}=${functionId}`;
}

/** Selects the pods of the pool that are nobody's yet, as list takes it. */
export function waitingOf(owner: string): string {
  return `${LABEL.owner}=${owner},${LABEL.pool},!${LABEL.functionId}`;
}
