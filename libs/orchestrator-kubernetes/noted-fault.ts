import type { V1Deployment } from '@kubernetes/client-node';
import type { WorkloadFault } from '#libs/orchestrator/workload.js';
import { FAULT_ANNOTATION } from './labels.js';

interface Note {
  readonly spec: string;
  readonly fault: Omit<WorkloadFault, 'at'> & { readonly at: string };
}

/** A fault as a Deployment's annotation keeps it, with the spec it belongs to. */
export function noteOf(fault: WorkloadFault, spec: string): string {
  const note: Note = { spec, fault: { ...fault, at: fault.at.toISOString() } };
  return JSON.stringify(note);
}

export function hasNote(deployment: V1Deployment): boolean {
  return deployment.metadata?.annotations?.[FAULT_ANNOTATION] !== undefined;
}

/** The fault that an earlier step noted of this spec; what anybody else wrote there counts for nothing. */
export function notedFault(deployment: V1Deployment, spec: string): WorkloadFault | undefined {
  const text = deployment.metadata?.annotations?.[FAULT_ANNOTATION];
  if (text === undefined) return undefined;
  try {
    const note = JSON.parse(text) as Note | null;
    if (note?.spec !== spec || typeof note.fault.message !== 'string') return undefined;
    const at = new Date(note.fault.at);
    return Number.isNaN(at.getTime()) ? undefined : { ...note.fault, at };
  } catch {
    return undefined;
  }
}
