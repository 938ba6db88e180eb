import type { WorkloadFault } from '#libs/orchestrator/workload.js';

/**
 * The most telling first: terminal before passing, faults before progress, newer before older. `runs`: a replica of the
 * same spec is ready, so whatever kept another from loading the code is not the code.
 */
export function ranked(faults: readonly WorkloadFault[], runs: boolean): WorkloadFault[] {
  return faults
    .map((fault) => (runs ? { ...fault, terminal: false } : fault))
    .toSorted((a, b) => weight(b) - weight(a) || b.at.getTime() - a.at.getTime());
}

function weight({ terminal, code }: WorkloadFault): number {
  if (terminal) return 2;
  return code === 'starting' ? 0 : 1;
}
