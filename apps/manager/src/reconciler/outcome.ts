import type { LoadReport, Observed, WorkloadFault } from '#libs/orchestrator/workload.js';
import type { FunctionEntity, Phase, StoredFault } from '../functions/function.entity.js';
import type { Outcome } from '../functions/function.repository.js';

/**
 * After so many failures in a row the function is in error: calls are refused with the reason, attempts go on.
 */
export const FAILURES_UNTIL_ERROR = 5;
/** The same of a file that can't be loaded any more. */
const LOADS_UNTIL_ERROR = 2;
/** How often a replica of a revision that takes over may end before it is given up. */
const FAILURES_UNTIL_GIVEN_UP = 2;
/**
 * Failures are forgotten when the function was ready for so many times the backoff that they cost it: rare failures
 * never add up, frequent ones do.
 */
const FORGIVEN_AFTER_BACKOFFS = 2;
const STARTING_RECHECK_MS = 1_000;
/** The calls that have just been given to other replicas need the processors first. */
const UNFINISHED_RECHECK_MS = 100;
/** For functions that wait for a start slot: there may be hundreds, and the engine tells when one starts. */
const QUEUED_RECHECK_MS = 5_000;
/** How much longer than its longest call a function's last replicas may take to go. */
const GOING_TO_SLEEP_MS = 5_000;
const BACKOFF_FIRST_MS = 500;
const BACKOFF_CAP_MS = 60_000;

/** Faults that keep every replica from starting. Attempts go on, and calls get the reason meanwhile. */
const CANT_START: ReadonlySet<string> = new Set(['image_unavailable', 'rejected', 'unschedulable']);

/**
 * Delay before the attempt after so many failures: doubles up to a minute, with a jitter of a fifth so that many
 * functions don't retry at once.
 */
export function backoffMs(failures: number, random: number): number {
  const full = Math.min(BACKOFF_CAP_MS, BACKOFF_FIRST_MS * 2 ** Math.max(0, Math.min(failures, 30) - 1));
  return Math.round(full * (0.9 + 0.2 * random));
}

export interface DecideOptions {
  readonly now: Date;
  readonly resyncMs: number;
  /** In [0, 1). A parameter, so that decisions are repeatable. */
  readonly random: number;
}

/** Whether it is called once and its worker has been ready: what becomes of that one is not made good by another. */
export function isBegunRun({ isRun, observedGeneration }: FunctionEntity): boolean {
  return isRun && observedGeneration > 0;
}

/** What the row should say after the engine showed `observed`. Pure. */
export function decide(row: FunctionEntity, observed: Observed, options: DecideOptions): Outcome {
  const fault = storedFault(observed.reason);
  const fresh = isNewFault(fault, row.lastFault);
  const satisfied = observed.ready >= row.replicas;
  // All replicas may answer while the engine refuses another part of the function.
  const asWanted = satisfied && fault?.code !== 'rejected';
  const serving = row.replicas > 0 && observed.endpoints.length > 0;
  const failures = failuresAfter(row, satisfied, fresh, options.now);
  const phase = phaseOf(row, observed, failures, fresh);
  const terminal = fault?.terminal === true;
  const waiting = !asWanted && !terminal;
  const leaving = (observed.leaving ?? 0) > 0;
  const queued = observed.replicas === 0 && fault?.code === 'starting';
  const backoff = backoffAfter(row, failures, fresh, options);
  const provisional = row.provisionalUntil !== null && (row.isRun || !(satisfied || serving));
  const isRollout = row.rolloutUntil !== null;
  const held = observed.replicas === 0 && fault?.code === 'handler_not_loadable' && !isRollout;
  const state = { waiting: waiting || isRollout, queued, held, provisional, terminal, leaving, backoff };
  const next = nextMs(row, state, options);
  return {
    phase,
    reason: asWanted ? null : fault,
    lastFault: fault !== null && fault.code !== 'starting' ? fault : row.lastFault,
    endpoints: observed.endpoints,
    primaryReplica: observed.primary,
    hostPort: observed.hostPort,
    observedGeneration: asWanted ? row.generation : row.observedGeneration,
    provisional,
    failures,
    backoffMs: backoff,
    nextMs: observed.isUnfinished === true ? Math.min(next ?? Infinity, UNFINISHED_RECHECK_MS) : next,
    takesOver: isRollout && satisfied && row.replicas > 0 && (observed.former ?? 0) === 0,
    abandon: provisional && row.provisionalUntil !== null && row.provisionalUntil <= options.now,
  };
}

/** Why a revision that was to take over is given up; undefined: it has taken over, or still may. */
export function rolloutFault({ rolloutUntil }: FunctionEntity, outcome: Outcome, now: Date): StoredFault | undefined {
  if (rolloutUntil === null || outcome.takesOver) return undefined;
  return faultBy(rolloutUntil, outcome, now);
}

/** Why workers of a revision that were made beside the function's own can't serve; undefined: they can, or still may. */
export function workloadFault(row: FunctionEntity, outcome: Outcome, now: Date): StoredFault | undefined {
  const { workloadOf, provisionalUntil } = row;
  if (workloadOf === null || provisionalUntil === null || !outcome.provisional) return undefined;
  return faultBy(provisionalUntil, outcome, now);
}

function faultBy(until: Date, { reason, failures }: Outcome, now: Date): StoredFault | undefined {
  const fault = reason ?? { code: 'starting', message: 'It did not become ready in time.', terminal: false, at: '' };
  const hasFailed = fault.terminal || CANT_START.has(fault.code) || failures >= FAILURES_UNTIL_GIVEN_UP;
  return hasFailed || until <= now ? fault : undefined;
}

function failuresAfter(row: FunctionEntity, satisfied: boolean, fresh: boolean, now: Date): number {
  const kept = isForgiven(row, now) ? 0 : row.failures;
  if (fresh) return kept + 1;
  return satisfied ? kept : row.failures;
}

function isForgiven({ failures, phase, phaseSince, lastFault }: FunctionEntity, now: Date): boolean {
  if (failures === 0 || phase !== 'running') return false;
  const readySince = Math.max(phaseSince.getTime(), lastFault === null ? 0 : Date.parse(lastFault.at));
  return now.getTime() - readySince > FORGIVEN_AFTER_BACKOFFS * backoffMs(failures, 0.5);
}

function phaseOf(row: FunctionEntity, observed: Observed, failures: number, fresh: boolean): Phase {
  if (row.replicas === 0) return observed.replicas === 0 ? 'idle' : row.phase;
  if (observed.endpoints.length > 0) return 'running';
  const isGone = observed.replicas === 0 || (observed.reason !== undefined && observed.reason.code !== 'starting');
  if (observed.reason?.terminal === true || (isBegunRun(row) && isGone)) return 'error';
  // It is tried again, at once the first time, and its calls get the reason until a try succeeds. While a new replica
  // starts the engine may still report the fault of an earlier one: only a fresh fault counts.
  if (observed.reason?.code === 'handler_not_loadable' && fresh && failures >= LOADS_UNTIL_ERROR) return 'error';
  if (row.phase === 'error' && row.lastFault?.code === 'handler_not_loadable') return 'error';
  if (observed.reason !== undefined && CANT_START.has(observed.reason.code)) return 'error';
  return failures >= FAILURES_UNTIL_ERROR ? 'error' : 'creating';
}

function nextMs(
  row: FunctionEntity,
  state: {
    waiting: boolean;
    queued: boolean;
    /** Nothing of it runs, and nothing will before its backoff is over. */
    held: boolean;
    provisional: boolean;
    terminal: boolean;
    leaving: boolean;
    backoff: number | null;
  },
  options: DecideOptions,
): number | null {
  const resync = Math.round(options.resyncMs * (0.8 + 0.4 * options.random));
  const untilAbandoned =
    state.provisional && row.provisionalUntil ? row.provisionalUntil.getTime() - options.now.getTime() : null;
  if (state.waiting) {
    const most = state.queued ? QUEUED_RECHECK_MS : state.held ? BACKOFF_CAP_MS : STARTING_RECHECK_MS;
    const recheck = state.backoff === null ? most : Math.min(Math.max(state.backoff, 1), most);
    return Math.max(1, untilAbandoned === null ? recheck : Math.min(recheck, untilAbandoned));
  }
  if (state.terminal) return untilAbandoned === null ? null : Math.max(1, untilAbandoned);
  if (row.replicas > 0) return untilAbandoned === null ? resync : Math.max(1, Math.min(resync, untilAbandoned));
  // Until its last replicas are gone: the manager that removes them may end before that.
  return row.phase === 'idle' && !state.leaving ? null : row.timeoutMs + GOING_TO_SLEEP_MS;
}

/**
 * How long the next replica that ends waits for its replacement. When this backoff is over it begins again until the
 * failures are forgotten, because the step that found it over has made the replacement.
 */
function backoffAfter(row: FunctionEntity, failures: number, fresh: boolean, options: DecideOptions): number | null {
  if (failures === 0) return null;
  const left = row.notBefore === null ? 0 : row.notBefore.getTime() - options.now.getTime();
  return fresh || left <= 0 ? backoffMs(failures, options.random) : left;
}

function isNewFault(fault: StoredFault | null, last: StoredFault | null): boolean {
  if (fault === null || fault.code === 'starting') return false;
  return last === null || fault.at !== last.at || fault.code !== last.code;
}

/** A handler's text without what PostgreSQL can't store: NUL and lone surrogates. */
function storable(text: string): string {
  return text.toWellFormed().replaceAll('\0', '\uFFFD');
}

function storedFault(fault: WorkloadFault | undefined): StoredFault | null {
  if (!fault) return null;
  const { at, message, detail, report, ...rest } = fault;
  return {
    ...rest,
    message: storable(message),
    ...(detail !== undefined && { detail: storable(detail) }),
    ...(report !== undefined && { report: storableReport(report) }),
    at: at.toISOString(),
  };
}

function storableReport({ pythonType, pythonMessage, stderr, available }: LoadReport): LoadReport {
  return {
    pythonType: storable(pythonType),
    pythonMessage: storable(pythonMessage),
    ...(stderr !== undefined && { stderr: storable(stderr) }),
    ...(available !== undefined && { available: available.map(storable) }),
  };
}
