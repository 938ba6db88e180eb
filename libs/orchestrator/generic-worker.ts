import { createHash, randomBytes } from 'node:crypto';
import { askHealth } from './health-probe.js';
import { requestOfWorker } from './worker-request.js';
import { tokenHeader } from './worker-tokens.js';
import type { FetchedLayer } from './layers.js';
import type { EndpointAddress, Workload } from './workload.js';

/** What a worker that was started without a function is told: docs/worker-protocol.md. */
export interface Specialisation {
  /** The variables that a worker started with the function would have had. */
  readonly environment: Readonly<Record<string, string>>;
  /** The handler's file; absent when it lies where the worker looks for it. */
  readonly code?: Buffer;
  /** Of secrets, by the name of each; absent: none. */
  readonly files?: Readonly<Record<string, string>>;
  /** Packages that the worker is to fetch; absent: they lie where its environment says, or there are none. */
  readonly layer?: FetchedLayer | undefined;
}

/** A worker has taken its function and left its secrets: its image knows nothing of them. */
export class SecretsIgnored extends Error {
  constructor() {
    super(
      'The image of workers can’t take the secrets of a function: it offers the bare contract only, is of a former version, or did not come up (WORKER_IMAGE).',
    );
  }
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
/** The worker itself gives up sooner. */
const FETCH_MS = 35_000;
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

/** Where a worker in a container finds its secrets' files. */
export const SECRETS_DIR = '/run/secrets';

/** What every worker of this function is told, wherever it runs: of its secrets, which variables are some. */
export function workerVariables(workload: Workload): Record<string, string> {
  const { functionId, functionName, revision, limits, environment, secrets, isCalledOnce } = workload;
  return {
    ...environment,
    FAAS_FUNCTION: functionId,
    FAAS_REVISION: String(revision),
    HANDLER_FUNCTION: `function.handler.${functionName}`,
    FAAS_TIMEOUT_MS: String(limits.timeoutMs),
    FAAS_CONCURRENCY: String(limits.concurrency),
    ...(isCalledOnce && { FAAS_CALLED_ONCE: 'yes' }),
    ...(secrets && { FAAS_SECRETS: Object.keys(secrets.variables).join(',') }),
  };
}

/** The values of a function's secrets, for the worker's own ears. */
export function secretsFor({ secrets }: Workload): Required<Pick<Specialisation, 'environment' | 'files'>> {
  return { environment: secrets?.variables ?? {}, files: secrets?.files ?? {} };
}

/** All that a generic worker is told of its function. `variables`: those that its engine gives to workers of it. */
export function specialisationOf(workload: Workload, variables = workerVariables(workload)): Specialisation {
  const { environment, files } = secretsFor(workload);
  return { environment: { ...variables, ...environment }, code: workload.code, files };
}

/** Gives a generic worker its function. Whatever comes of it, the worker can't be used for another one. */
export async function specialise(
  address: EndpointAddress,
  token: string,
  { environment, code, files = {}, layer }: Specialisation,
  signal: AbortSignal,
): Promise<void> {
  const secrets = Object.keys(files).length;
  const { status, body } = await requestOfWorker({
    address,
    method: 'POST',
    path: '/specialise',
    headers: { Authorization: `Bearer ${token}` },
    body: JSON.stringify({ environment, code: code?.toString('base64'), ...(secrets > 0 && { files }), layer }),
    timeoutMs: layer === undefined ? SPECIALISE_MS : FETCH_MS,
    connectMs: CONNECT_MS,
    signal,
  });
  if (status !== SPECIALISED) throw new Error(`A generic worker refused its function with ${status}.`);
  if (secrets > 0 && filesIn(body) !== secrets) throw new SecretsIgnored();
}

function filesIn(body: Buffer): unknown {
  try {
    return (JSON.parse(body.toString('utf8')) as { files?: unknown }).files;
  } catch {
    return undefined;
  }
}
