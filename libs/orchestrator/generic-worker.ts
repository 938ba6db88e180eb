import { createHash, randomBytes } from 'node:crypto';
import { askHealth } from './health-probe.js';
import { requestOfWorker } from './worker-request.js';
import { tokenHeader } from './worker-tokens.js';
import type { EndpointAddress, Workload } from './workload.js';

/** What a worker that was started without a function is told: docs/worker-protocol.md. */
export interface Specialisation {
  /** The variables that a worker started with the function would have had. */
  readonly environment: Readonly<Record<string, string>>;
  /** The handler's file; absent when it lies where the worker looks for it. */
  readonly code?: Buffer;
}

/** Lets a worker without a function be given one, once. The worker is started with the digest only. */
export interface OneTimeToken {
  readonly token: string;
  readonly sha256: string;
}

/**
 * The longest that a manager keeps a generic worker, in milliseconds. What still says that it has no function after that
 * may be handler code that answers in its worker's place.
 */
export const LONGEST_WAIT_MS = 30 * 60_000;
const ASK_MS = 2_000;
const CONNECT_MS = 1_000;
/** The worker itself waits no longer for a body. */
const SPECIALISE_MS = 10_000;
const SPECIALISED = 202;

export function oneTimeToken(): OneTimeToken {
  const token = randomBytes(32).toString('base64url');
  return { token, sha256: createHash('sha256').update(token).digest('hex') };
}

/** `other`: it answers, and has a function or never was without one. `silent`: no answer in time. */
export type Kind = 'generic' | 'other' | 'silent';

/** @param renewal its token, to renew its lease with the same request; false: the lease stays as it is */
export async function kindOf(address: EndpointAddress, renewal: string | false, timeoutMs = ASK_MS): Promise<Kind> {
  const headers = renewal === false ? {} : { 'X-Faas-Lease': 'renew', ...tokenHeader(renewal) };
  const answer = await askHealth(address, timeoutMs, headers);
  if (answer === null) return 'silent';
  return answer.status === 503 && answer.document?.['status'] === 'generic' ? 'generic' : 'other';
}

/** What every worker of this function is told, wherever it runs. */
export function workerVariables({ functionId, functionName, limits, environment }: Workload): Record<string, string> {
  return {
    ...environment,
    FAAS_FUNCTION: functionId,
    HANDLER_FUNCTION: `function.handler.${functionName}`,
    FAAS_TIMEOUT_MS: String(limits.timeoutMs),
    FAAS_CONCURRENCY: String(limits.concurrency),
  };
}

/** Gives a generic worker its function. Whatever comes of it, the worker can't be used for another one. */
export async function specialise(
  address: EndpointAddress,
  token: string,
  { environment, code }: Specialisation,
  signal: AbortSignal,
): Promise<void> {
  const { status } = await requestOfWorker({
    address,
    method: 'POST',
    path: '/specialise',
    headers: { Authorization: `Bearer ${token}` },
    body: JSON.stringify({ environment, code: code?.toString('base64') }),
    timeoutMs: SPECIALISE_MS,
    connectMs: CONNECT_MS,
    signal,
  });
  if (status !== SPECIALISED) throw new Error(`A generic worker refused its function with ${status}.`);
}
