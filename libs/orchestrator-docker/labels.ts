import type { FunctionId, Workload } from '#libs/orchestrator/workload.js';

/** What tells our objects on the engine from everything else, and from each other. */
export const LABEL = {
  owner: 'faas.owner',
  functionId: 'faas.function',
  revision: 'faas.revision',
  spec: 'faas.spec',
} as const;

export function replicaLabels(owner: string, workload: Workload, spec: string): Record<string, string> {
  return {
    [LABEL.owner]: owner,
    [LABEL.functionId]: workload.functionId,
    [LABEL.revision]: String(workload.revision),
    [LABEL.spec]: spec,
  };
}

/** Label selectors as the engine's list and event filters take them. */
export function ownedBy(owner: string, functionId?: FunctionId): string[] {
  const selectors = [`${LABEL.owner}=${owner}`];
  if (functionId !== undefined) selectors.push(`${LABEL.functionId}=${functionId}`);
  return selectors;
}
