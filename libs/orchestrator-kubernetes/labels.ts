import type { FunctionId, Workload } from '#libs/orchestrator/workload.js';

/** What tells our objects in the namespace from everything else, and from each other. */
export const LABEL = {
  owner: 'faas.owner',
  functionId: 'faas.function',
  revision: 'faas.revision',
  spec: 'faas.spec',
} as const;

/** Notes on a Deployment why its handler can't be loaded, so that no manager tries the same code again. */
export const FAULT_ANNOTATION = 'faas.fault';

/** The selector of a function's pods; a Deployment's can never be changed. */
export function podSelector(functionId: FunctionId): Record<string, string> {
  return { app: 'faas-worker', func: functionId };
}

export function objectLabels(owner: string, functionId: FunctionId): Record<string, string> {
  return { ...podSelector(functionId), [LABEL.owner]: owner, [LABEL.functionId]: functionId };
}

export function podLabels(owner: string, workload: Workload, spec: string): Record<string, string> {
  return {
    ...objectLabels(owner, workload.functionId),
    [LABEL.revision]: String(workload.revision),
    [LABEL.spec]: spec,
  };
}

/** A label selector as list and watch take it. */
export function ownedBy(owner: string, functionId?: FunctionId): string {
  return functionId === undefined
    ? `${LABEL.owner}=${owner}`
    : `${LABEL.owner}=${owner},${LABEL.functionId}=${functionId}`;
}
