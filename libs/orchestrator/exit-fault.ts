import { constants } from 'node:os';
import type { WorkloadFault } from './workload.js';

/** Our own worker can't load the handler. */
export const EXIT_NOT_LOADABLE = 65;
/** It has given up on itself. */
export const EXIT_FAILED = 76;
const SIGKILL_EXIT = 137;
const DETAIL_CHARACTERS = 8_000;
const HANDLER_FILE_LINE = /File "[^"\n]*\/function\/handler\.py", line (\d+)/g;
const ABOUT_THE_HANDLER = /^Traceback \(most recent call last\):|function[./]handler\b/m;

/** How a container ended, as the engine's inspection and its last log lines tell. */
export interface Ending {
  readonly exitCode: number;
  readonly oomKilled: boolean;
  readonly finishedAt: Date;
  /** The engine's own complaint, mostly empty. */
  readonly error: string;
  readonly log: readonly string[];
  /** This manager saw it from its start to its end, and never ready. */
  readonly neverReady: boolean;
}

/** Why a replica ended by itself. Only a file that can't be loaded is terminal. */
export function exitFault(ending: Ending): WorkloadFault {
  // The engine remembers any out-of-memory kill inside the container, also one its first process survived.
  if (ending.oomKilled && ending.exitCode === SIGKILL_EXIT) {
    return fault(ending, 'out_of_memory', 'The worker was killed because it reached its memory limit.');
  }
  const report = ending.exitCode === EXIT_NOT_LOADABLE ? loadReport(ending) : undefined;
  if (report !== undefined) return report;
  const failure = ending.exitCode === EXIT_FAILED ? failureIn(ending.log) : undefined;
  if (failure !== undefined) return fault(ending, 'worker_crashed', failure);
  if (ending.neverReady && ending.exitCode !== 0 && ending.exitCode < 128 && ABOUT_THE_HANDLER.test(logOf(ending))) {
    return unreportedLoadFault(ending);
  }
  const reason = ending.error === '' ? '' : `: ${ending.error}`;
  return fault(ending, 'worker_crashed', `The worker ${howItEnded(ending.exitCode)}${reason}.`);
}

function howItEnded(exitCode: number): string {
  const signal = Object.entries(constants.signals).find(([, number]) => number === exitCode - 128)?.[0];
  return signal === undefined ? `exited with code ${exitCode}` : `was killed by ${signal}`;
}

/** Our own worker says what is wrong in one JSON line. */
function loadReport(ending: Ending): WorkloadFault | undefined {
  const note = lastNote(ending.log, 'handler_not_loadable');
  return note === undefined ? undefined : loadFault(note, ending.finishedAt);
}

/** A file that can't be loaded, as the worker's note tells it. */
export function loadFault(note: WorkerNote, at: Date): WorkloadFault {
  const pythonType = text(note.type);
  const pythonMessage = text(note.message);
  const [traceback, advice, stderr] = [text(note.traceback), text(note.advice), text(note.stderr)];
  const available = Array.isArray(note.available) ? note.available.map(String) : [];
  const said = [pythonType, pythonMessage].filter((part) => part !== '').join(': ');
  return {
    code: 'handler_not_loadable',
    message: advice === '' ? said : `${said}${/[.!?:]$/.test(said) ? '' : '.'} ${advice}`,
    ...(traceback !== '' && { detail: traceback.slice(-DETAIL_CHARACTERS) }),
    ...(typeof note.line === 'number' && { line: note.line }),
    report: { pythonType, pythonMessage, ...(stderr !== '' && { stderr }), ...(available.length > 0 && { available }) },
    terminal: true,
    at,
  };
}

/** Why our own worker gave up on itself, in its words. */
export function failureIn(log: readonly string[]): string | undefined {
  const message = lastNote(log, 'worker_failed')?.message;
  return typeof message === 'string' ? message : undefined;
}

export interface WorkerNote {
  readonly type?: unknown;
  readonly message?: unknown;
  readonly traceback?: unknown;
  readonly line?: unknown;
  readonly advice?: unknown;
  readonly available?: unknown;
  readonly stderr?: unknown;
}

/**
 * The last note of this kind. The worker writes them in exactly this form, and lets nothing through that begins so and
 * that a handler has written.
 */
export function lastNote(log: readonly string[], kind: string): WorkerNote | undefined {
  const line = log.findLast((candidate) => candidate.startsWith(`{"faas": "${kind}"`));
  try {
    return line === undefined ? undefined : (JSON.parse(line) as WorkerNote);
  } catch {
    return undefined;
  }
}

/** A plain image only prints and exits; its last line is Python's sentence or its own. */
function unreportedLoadFault(ending: Ending): WorkloadFault {
  const last = ending.log.findLast((line) => line.trim() !== '')?.trim() ?? `exit code ${ending.exitCode}`;
  const line = [...logOf(ending).matchAll(HANDLER_FILE_LINE)].at(-1)?.[1];
  return {
    ...fault(ending, 'handler_not_loadable', last.slice(0, 500)),
    ...(line !== undefined && { line: Number(line) }),
    terminal: true,
  };
}

function fault(ending: Ending, code: WorkloadFault['code'], message: string): WorkloadFault {
  const detail = logOf(ending).slice(-DETAIL_CHARACTERS);
  return { code, message, ...(detail !== '' && { detail }), terminal: false, at: ending.finishedAt };
}

function logOf(ending: Ending): string {
  return ending.log.join('\n');
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
