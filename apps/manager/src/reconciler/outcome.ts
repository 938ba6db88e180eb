import type { LoadReport, Observed, WorkloadFault } from '#libs/orchestrator/workload.js';
import type { FunctionEntity, Phase, StoredFault } from '../functions/function.entity.js';
import type { Outcome } from '../functions/function.repository.js';

/** After this many replicas ended in a row the function is in error: calls are refused with the reason, retries go on. */
export const FAILURES_UNTIL_ERROR = 5;
/**
 * Failures are forgotten once a function was ready this many times longer than the pause they cost it: so ends far
 * apart never add up, and quick ones do.
 */
const FORGIVEN_AFTER_PAUSES = 2;
const STARTING_RECHECK_MS = 1_000;
/** Nothing has begun yet: the engine tells when it does, and there may be hundreds. */
const QUEUED_RECHECK_MS = 5_000;
/** Beyond the longest call. */
const GOING_TO_SLEEP_MS = 5_000;
const BACKOFF_FIRST_MS = 500;
const BACKOFF_CAP_MS = 60_000;

/** Faults that keep every replica from starting; each is tried again, and calls are told why meanwhile. */
const CANT_START: ReadonlySet<string> = new Set(['image_unavailable', 'rejected', 'unschedulable']);

/** Delay before attempt `failures + 1`: doubles up to a minute, with a fifth of jitter so that many don't march in step. */
export function backoffMs(failures: number, random: number): number {
  const full = Math.min(BACKOFF_CAP_MS, BACKOFF_FIRST_MS * 2 ** Math.max(0, Math.min(failures, 30) - 1));
  return Math.round(full * (0.9 + 0.2 * random));
}

export interface DecideOptions {
  readonly now: Date;
  readonly resyncMs: number;
  /** In [0, 1); injected so that decisions are repeatable. */
  readonly random: number;
}

/** What the row should say after an engine showed `observed`. Pure. */
export function decide(row: FunctionEntity, observed: Observed, options: DecideOptions): Outcome {
  const fault = storedFault(observed.reason);
  const fresh = isNewFault(fault, row.lastFault);
  const satisfied = observed.ready >= row.replicas;
  // Replicas may all answer while the engine refuses something else of the function.
  const asWanted = satisfied && fault?.code !== 'rejected';
  const serving = row.replicas > 0 && observed.endpoints.length > 0;
  const failures = failuresAfter(row, satisfied, fresh, options.now);
  const phase = phaseOf(row, observed, failures);
  const terminal = fault?.terminal === true;
  const waiting = !asWanted && !terminal;
  const leaving = (observed.leaving ?? 0) > 0;
  const queued = observed.replicas === 0 && fault?.code === 'starting';
  const holdMs = holdOf(row, failures, fresh, options);
  const provisional = row.provisionalUntil !== null && !(satisfied || serving);
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
    holdMs,
    nextMs: nextMs(row, { waiting, queued, provisional, terminal, leaving, holdMs }, options),
    abandon: provisional && row.provisionalUntil !== null && row.provisionalUntil <= options.now,
  };
}

function failuresAfter(row: FunctionEntity, satisfied: boolean, fresh: boolean, now: Date): number {
  const kept = isForgiven(row, now) ? 0 : row.failures;
  if (fresh) return kept + 1;
  return satisfied ? kept : row.failures;
}

function isForgiven({ failures, phase, phaseSince, lastFault }: FunctionEntity, now: Date): boolean {
  if (failures === 0 || phase !== 'running') return false;
  const readySince = Math.max(phaseSince.getTime(), lastFault === null ? 0 : Date.parse(lastFault.at));
  return now.getTime() - readySince > FORGIVEN_AFTER_PAUSES * backoffMs(failures, 0.5);
}

function phaseOf(row: FunctionEntity, observed: Observed, failures: number): Phase {
  if (row.replicas === 0) return observed.replicas === 0 ? 'idle' : row.phase;
  if (observed.endpoints.length > 0) return 'running';
  if (observed.reason?.terminal === true) return 'error';
  if (observed.reason !== undefined && CANT_START.has(observed.reason.code)) return 'error';
  return failures >= FAILURES_UNTIL_ERROR ? 'error' : 'creating';
}

function nextMs(
  row: FunctionEntity,
  state: {
    waiting: boolean;
    queued: boolean;
    provisional: boolean;
    terminal: boolean;
    leaving: boolean;
    holdMs: number | null;
  },
  options: DecideOptions,
): number | null {
  const resync = Math.round(options.resyncMs * (0.8 + 0.4 * options.random));
  const untilAbandoned =
    state.provisional && row.provisionalUntil ? row.provisionalUntil.getTime() - options.now.getTime() : null;
  if (state.waiting) {
    const most = state.queued ? QUEUED_RECHECK_MS : STARTING_RECHECK_MS;
    const recheck = state.holdMs === null ? most : Math.min(Math.max(state.holdMs, 1), most);
    return Math.max(1, untilAbandoned === null ? recheck : Math.min(recheck, untilAbandoned));
  }
  if (state.terminal) return untilAbandoned === null ? null : Math.max(1, untilAbandoned);
  if (row.replicas > 0) return resync;
  // Until its last replicas are gone: the manager that let them go may not live to see it.
  return row.phase === 'idle' && !state.leaving ? null : row.timeoutMs + GOING_TO_SLEEP_MS;
}

/**
 * How long the next replica that ends waits for its replacement. A hold that is over begins anew for as long as the
 * failures aren't forgotten: the step that found it over is the one that made the replacement.
 */
function holdOf(row: FunctionEntity, failures: number, fresh: boolean, options: DecideOptions): number | null {
  if (failures === 0) return null;
  const left = row.notBefore === null ? 0 : row.notBefore.getTime() - options.now.getTime();
  return fresh || left <= 0 ? backoffMs(failures, options.random) : left;
}

function isNewFault(fault: StoredFault | null, last: StoredFault | null): boolean {
  if (fault === null || fault.code === 'starting') return false;
  return last === null || fault.at !== last.at || fault.code !== last.code;
}

/** What the database can keep of a text that may be the handler's: neither NUL nor half a character. */
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
