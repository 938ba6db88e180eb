import { EXIT_FAILED, EXIT_NOT_LOADABLE, failureIn, lastNote } from '#libs/orchestrator/exit-fault.js';
import type { WorkloadFault } from '#libs/orchestrator/workload.js';
import type { ReplicaExit } from './replica-files.js';

const DETAIL_LINES = 20;

interface LoadReport {
  readonly type: string;
  readonly message: string;
  readonly line: number | null;
  readonly traceback: string;
}

/**
 * Why a replica ended by itself. Only the manager that started it learns the exit status; to any other, the worker's
 * last words have to do.
 *
 * @param tail the replica's last log lines, oldest first
 */
export function faultOfExit(exit: ReplicaExit | undefined, tail: readonly string[], at: Date): WorkloadFault {
  const status = exit?.code ?? undefined;
  const report = status === undefined || status === EXIT_NOT_LOADABLE ? loadReportIn(tail) : undefined;
  if (report !== undefined && exit?.signal == null) {
    return {
      code: 'handler_not_loadable',
      message: `${report.type}: ${report.message}`,
      detail: report.traceback,
      ...(report.line === null ? {} : { line: report.line }),
      terminal: true,
      at,
    };
  }
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

function loadReportIn(tail: readonly string[]): LoadReport | undefined {
  const note = lastNote(tail, 'handler_not_loadable');
  if (note === undefined) return undefined;
  const { type, message, line, traceback } = note;
  return {
    type: String(type),
    message: String(message),
    line: typeof line === 'number' ? line : null,
    traceback: String(traceback),
  };
}
