import { EXIT_FAILED, EXIT_NOT_LOADABLE, failureIn, lastNote, loadFault } from '#libs/orchestrator/exit-fault.js';
import type { WorkloadFault } from '#libs/orchestrator/workload.js';
import type { ReplicaExit } from './replica-files.js';

const DETAIL_LINES = 20;

/**
 * Why a replica ended by itself. Only the manager that started it learns the exit status; to any other, the worker's
 * last words have to do.
 *
 * @param tail the replica's last log lines, oldest first
 */
export function faultOfExit(exit: ReplicaExit | undefined, tail: readonly string[], at: Date): WorkloadFault {
  const status = exit?.code ?? undefined;
  const isAboutLoading = (status === undefined || status === EXIT_NOT_LOADABLE) && exit?.signal == null;
  const note = isAboutLoading ? lastNote(tail, 'handler_not_loadable') : undefined;
  if (note !== undefined) return loadFault(note, at);
  const detail = tail.slice(-DETAIL_LINES).join('\n');
  return { code: 'worker_crashed', message: howItEnded(exit, tail), ...(detail && { detail }), terminal: false, at };
}

function howItEnded(exit: ReplicaExit | undefined, tail: readonly string[]): string {
  const failure = failureIn(tail);
  if (failure !== undefined && (exit?.code ?? EXIT_FAILED) === EXIT_FAILED && exit?.signal == null) return failure;
  if (exit?.signal != null) return `The worker was ended by ${exit.signal}.`;
  if (exit?.code != null) return `The worker exited with status ${exit.code}.`;
  return 'The worker ended while another manager, or none, looked after it.';
}
