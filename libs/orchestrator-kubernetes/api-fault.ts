import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import type { WorkloadFault } from '#libs/orchestrator/workload.js';

export const ENGINE = 'Kubernetes';

/** The API server answered and said no. */
export class ApiRefusal extends Error {
  constructor(
    readonly status: number,
    /** The API's own word, such as `AlreadyExists`; empty when it gave none. */
    readonly reason: string,
    message: string,
  ) {
    super(message);
  }
}

interface Status {
  readonly message?: unknown;
  readonly reason?: unknown;
}

/** Tells an API server that can't serve now, or not us, from one that refuses this one request. */
export function refusalOf(status: number, body: string): ApiRefusal | OrchestratorUnavailable {
  const said = statusOf(body);
  const message = typeof said.message === 'string' && said.message !== '' ? said.message : `status ${status}`;
  const reason = typeof said.reason === 'string' ? said.reason : '';
  if (status === 401) {
    return new OrchestratorUnavailable(
      ENGINE,
      'the API server refuses our credentials: they are wrong or have expired',
    );
  }
  // An admission webhook that can't be reached makes a 500, and is no refusal either.
  if (status === 429 || status >= 500) return new OrchestratorUnavailable(ENGINE, message);
  return new ApiRefusal(status, reason, message);
}

/** What a user is told of a workload that the API server refuses. Tried again: quotas are raised, policies change. */
export function rejection({ message }: { readonly message: string }): WorkloadFault {
  return {
    code: 'rejected',
    message: `Kubernetes refused the function: ${message}`,
    terminal: false,
    at: new Date(),
  };
}

export function isMissing(error: unknown): boolean {
  return error instanceof ApiRefusal && error.status === 404;
}

export function isConflict(error: unknown): boolean {
  return error instanceof ApiRefusal && error.status === 409;
}

function statusOf(body: string): Status {
  try {
    const parsed: unknown = JSON.parse(body);
    return typeof parsed === 'object' && parsed !== null ? parsed : {};
  } catch {
    return { message: body.slice(0, 500) };
  }
}
