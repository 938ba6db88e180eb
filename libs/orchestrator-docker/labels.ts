import type { FunctionId, Workload } from '#libs/orchestrator/workload.js';

/** What tells our objects on the engine from everything else, and from each other. */
export const LABEL = {
  owner: 'faas.owner',
  functionId: 'faas.function',
  revision: 'faas.revision',
  spec: 'faas.spec',
  /** On containers that were started without a function. */
  pool: 'faas.pool',
  /** On containers that answer to a token: what it is made of, which is no secret. */
  credential: 'faas.credential',
  /** On what builds layers and brings them to workers. */
  layers: 'faas.layers',
  /** On claims: the owner, under another name than on what is pruned once no container uses it. */
  claim: 'faas.claim',
} as const;

/** Generic workers, and replicas that once were some. */
export function fromPoolOf(owner: string): string[] {
  return [...ownedBy(owner), LABEL.pool];
}

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
