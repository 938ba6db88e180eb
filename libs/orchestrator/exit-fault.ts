import { constants } from 'node:os';
import type { WorkloadFault } from './workload.js';

/** Our own worker can't load the handler. */
const EXIT_NOT_LOADABLE = 65;
/** It has given up on itself. */
const EXIT_FAILED = 76;
const SIGNALLED = 128;
const SIGKILL_EXIT = 137;
const NOT_SEEN = -1;
const DETAIL_CHARACTERS = 8_000;
const HANDLER_FILE_LINE = /File "[^"\n]*\/function\/handler\.py", line (\d+)/g;
const ABOUT_THE_HANDLER = /^Traceback \(most recent call last\):|function[./]handler\b/m;

/** How a worker ended, as the engine's inspection and its last log lines tell. */
export interface Termination {
  /** 128 and the signal's number where it was killed; undefined when nobody saw it: then the log alone tells. */
  readonly exitCode: number | undefined;
  readonly oomKilled: boolean;
  readonly finishedAt: Date;
  /** The engine's own complaint, mostly empty. */
  readonly error: string;
  readonly log: readonly string[];
  /** This manager saw it from its start to its end, and never ready. */
  readonly neverReady: boolean;
}

/** Why a replica ended by itself. Only a file that can't be loaded is terminal. */
export function exitFault(termination: Termination): WorkloadFault {
  // The engine remembers any out-of-memory kill inside the container, also one its first process survived.
  if (termination.oomKilled && termination.exitCode === SIGKILL_EXIT) {
    return fault(termination, 'out_of_memory', 'The worker was killed because it reached its memory limit.');
  }
  const { exitCode = NOT_SEEN } = termination;
  const report = [EXIT_NOT_LOADABLE, NOT_SEEN].includes(exitCode) ? loadReport(termination) : undefined;
  if (report !== undefined) return report;
  const failure = [EXIT_FAILED, NOT_SEEN].includes(exitCode) ? lastNote(termination.log, 'worker_failed') : undefined;
  if (typeof failure?.message === 'string') {
    const code = failure.reason === 'out_of_memory' ? failure.reason : 'worker_crashed';
    return fault(termination, code, failure.message);
  }
  if (termination.neverReady && exitCode > 0 && exitCode < SIGNALLED && ABOUT_THE_HANDLER.test(logOf(termination))) {
    return unreportedLoadFault(termination);
  }
  const reason = termination.error === '' ? '' : `: ${termination.error}`;
  return fault(termination, 'worker_crashed', `The worker ${howItEnded(exitCode)}${reason}.`);
}

function howItEnded(exitCode: number): string {
  if (exitCode === NOT_SEEN) return 'ended while no manager looked after it';
  const signal = Object.entries(constants.signals).find(([, number]) => number === exitCode - SIGNALLED)?.[0];
  return signal === undefined ? `exited with code ${exitCode}` : `was killed by ${signal}`;
}

/** Our own worker says what is wrong in one JSON line. */
function loadReport(termination: Termination): WorkloadFault | undefined {
  const note = lastNote(termination.log, 'handler_not_loadable');
  return note === undefined ? undefined : loadFault(note, termination.finishedAt);
}

/** A file that can't be loaded, as the worker's note tells it. */
function loadFault(note: WorkerNote, at: Date): WorkloadFault {
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

interface WorkerNote {
  readonly type?: unknown;
  readonly message?: unknown;
  readonly reason?: unknown;
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
function lastNote(log: readonly string[], kind: string): WorkerNote | undefined {
  const line = log.findLast((candidate) => candidate.startsWith(`{"faas": "${kind}"`));
  try {
    return line === undefined ? undefined : (JSON.parse(line) as WorkerNote);
  } catch {
    return undefined;
  }
}

/** A plain image only prints and exits; its last line is Python's sentence or its own. */
function unreportedLoadFault(termination: Termination): WorkloadFault {
  const last = termination.log.findLast((line) => line.trim() !== '')?.trim() ?? `exit code ${termination.exitCode}`;
  const line = [...logOf(termination).matchAll(HANDLER_FILE_LINE)].at(-1)?.[1];
  return {
    ...fault(termination, 'handler_not_loadable', last.slice(0, 500)),
    ...(line !== undefined && { line: Number(line) }),
    terminal: true,
  };
}

function fault(termination: Termination, code: WorkloadFault['code'], message: string): WorkloadFault {
  const detail = logOf(termination).slice(-DETAIL_CHARACTERS);
  return { code, message, ...(detail !== '' && { detail }), terminal: false, at: termination.finishedAt };
}

function logOf(termination: Termination): string {
  return termination.log.join('\n');
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
