import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';

export const ENGINE = 'Docker';

/** The engine answered and said no. */
export class EngineRefusal extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOENT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EPIPE',
  'ETIMEDOUT',
  'EPROTO',
]);
const GOING_DOWN =
  /shutting down|transport is closing|connection error|containerd[^:]*(not running|unavailable)|context (canceled|deadline)/i;

interface Thrown {
  readonly code?: unknown;
  readonly message?: unknown;
  readonly statusCode?: unknown;
  readonly json?: unknown;
  readonly address?: unknown;
}

/** Tells an engine that can't be reached from one that refuses, whatever the client library threw. */
export function engineFault(thrown: unknown): OrchestratorUnavailable | EngineRefusal | undefined {
  if (thrown instanceof OrchestratorUnavailable || thrown instanceof EngineRefusal) return thrown;
  if (typeof thrown !== 'object' || thrown === null) return undefined;
  const { code, statusCode, address, message }: Thrown = thrown;
  if (typeof statusCode === 'number') return refusalOf(thrown, statusCode);
  if (code === 'EACCES' || code === 'EPERM') {
    const where = typeof address === 'string' ? address : 'its socket';
    return unavailable(`permission denied on ${where}; add the user to the docker group`, thrown);
  }
  if (typeof code === 'string' && UNREACHABLE.has(code)) {
    return unavailable(typeof message === 'string' ? message : code, thrown);
  }
  if (message === 'socket hang up' || message === 'aborted') return unavailable('the connection was cut', thrown);
  return undefined;
}

function refusalOf(thrown: Thrown, status: number): OrchestratorUnavailable | EngineRefusal {
  const said = (thrown.json as { message?: unknown } | null | undefined)?.message;
  const spoken = [said, thrown.message].find((text) => typeof text === 'string') ?? `status ${status}`;
  const message = spoken.trim();
  if (status === 503 || (status >= 500 && GOING_DOWN.test(message))) return unavailable(message, thrown);
  return new EngineRefusal(status, message);
}

function unavailable(reason: string, cause: unknown): OrchestratorUnavailable {
  return new OrchestratorUnavailable(ENGINE, reason, cause);
}

/** True for an object that isn't there (any more). */
export function isMissing(error: unknown): boolean {
  return error instanceof EngineRefusal && error.status === 404;
}

/** True where a container can't be made before its image is pulled. */
export function isImageMissing(error: unknown): boolean {
  return isMissing(error) && /no such image|not found: manifest/i.test((error as EngineRefusal).message);
}

export function isConflict(error: unknown): boolean {
  return error instanceof EngineRefusal && error.status === 409;
}
