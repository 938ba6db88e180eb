import {
  type CallbacksConfig,
  type InvocationsConfig,
  LONGEST_AGE_MS,
  type LimitsConfig,
  MOST_ATTEMPTS,
} from '#libs/config/config.js';
import { JsonStrings } from '#libs/json/json-scan.js';
import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { parseCall, readBody } from '../gateway/call-body.js';
import type { MemoryReservation } from '../memory/memory-budget.js';
import { targetFault } from './callback-target.js';
import { InvalidInvocation } from './errors.js';
import { PRIORITIES, type Priority, RETRYABLE, type Retryable, type RetryPolicy } from './invocation.js';

/** What a call for later says of itself beside its payload. */
export const OPTIONS = [
  'delay_ms',
  'not_before',
  'priority',
  'max_attempts',
  'retry_on',
  'backoff_ms',
  'max_age_ms',
  'callback_url',
] as const;

/** What a request asks for. */
export interface InvocationRequest {
  /** `{"payload": "…"}`, as workers get it. */
  readonly body: Buffer;
  readonly payloadBytes: number;
  /** When it is due: so long after it came, or at this moment; at once without either. */
  readonly delayMs: number;
  readonly notBefore: Date | null;
  readonly priority: number;
  readonly retry: RetryPolicy;
  readonly maxAgeMs: number;
  /** Whom to tell of its end. */
  readonly callbackUrl: string | null;
  readonly key: string | null;
  /** SHA-256 of all of the request. */
  readonly digest: Buffer;
}

export type RequestLimits = Pick<LimitsConfig, 'payloadBytes'> &
  Pick<InvocationsConfig, 'maxAttempts' | 'backoffMs' | 'maxAgeMs' | 'callbacks'>;

const KEY = /^[\x21-\x7e]{1,255}$/;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/;

/** Throws {@link InvalidInvocation} with the member at fault, or what a call's body may be refused with. */
export async function readInvocation(
  request: IncomingMessage,
  limits: RequestLimits,
  reservation: Pick<MemoryReservation, 'add'>,
): Promise<InvocationRequest> {
  const key = keyIn(request);
  const body = await readBody(request, limits.payloadBytes, reservation);
  return { ...invocationIn(body, limits), key, digest: digestOf(request, body) };
}

function keyIn({ headers }: IncomingMessage): string | null {
  const { 'idempotency-key': key } = headers;
  if (key === undefined) return null;
  if (typeof key === 'string' && KEY.test(key)) return key;
  throw new InvalidInvocation('Idempotency-Key', 'Idempotency-Key must be 1 to 255 printable ASCII characters.');
}

/** The query too: it may name a revision. */
function digestOf({ url = '' }: IncomingMessage, body: Buffer): Buffer {
  const query = url.includes('?') ? url.slice(url.indexOf('?')) : '';
  return createHash('sha256').update(`${query}\n`).update(body).digest();
}

export function invocationIn(body: Buffer, limits: RequestLimits): Omit<InvocationRequest, 'key' | 'digest'> {
  const { members, long } = parseCall(body, limits.payloadBytes, OPTIONS);
  const text = members['payload'] as string;
  const delayMs = wholeIn(members, 'delay_ms', 0, LONGEST_AGE_MS);
  const notBefore = timeIn(members, 'not_before');
  if (delayMs !== undefined && notBefore !== null) {
    throw new InvalidInvocation('not_before', 'Send delay_ms or not_before, not both.');
  }
  return {
    ...(long === undefined
      ? { body: Buffer.from(JSON.stringify({ payload: text })), payloadBytes: Buffer.byteLength(text) }
      : {
          body: Buffer.concat([PREFIX, body.subarray(long.start, long.end + 1), SUFFIX]),
          payloadBytes: new JsonStrings(body).textBytes(long.start + 1, long.end),
        }),
    delayMs: delayMs ?? 0,
    notBefore,
    priority: PRIORITIES.indexOf(priorityIn(members)),
    retry: {
      maxAttempts: wholeIn(members, 'max_attempts', 1, MOST_ATTEMPTS) ?? limits.maxAttempts,
      on: kindsIn(members),
      backoffMs: wholeIn(members, 'backoff_ms', 0, LONGEST_AGE_MS) ?? limits.backoffMs,
    },
    maxAgeMs: wholeIn(members, 'max_age_ms', 1, LONGEST_AGE_MS) ?? limits.maxAgeMs,
    callbackUrl: callbackIn(members, limits.callbacks),
  };
}

const PREFIX = Buffer.from('{"payload":');
const SUFFIX = Buffer.from('}');

type Members = Readonly<Record<string, unknown>>;

function wholeIn(members: Members, name: string, least: number, most: number): number | undefined {
  const { [name]: value } = members;
  if (value === undefined || value === null) return undefined;
  if (Number.isInteger(value) && (value as number) >= least && (value as number) <= most) return value as number;
  throw new InvalidInvocation(name, `${name} must be a whole number from ${least} to ${most}.`);
}

function timeIn(members: Members, name: string): Date | null {
  const { [name]: value } = members;
  if (value === undefined || value === null) return null;
  const time = typeof value === 'string' && TIME.test(value) ? new Date(value) : undefined;
  if (time === undefined || Number.isNaN(time.getTime())) {
    throw new InvalidInvocation(name, `${name} must be a time such as 2026-11-23T12:00:00Z (RFC 3339).`);
  }
  const last = Date.now() + LONGEST_AGE_MS;
  if (time.getTime() > last) {
    throw new InvalidInvocation(name, `${name} must be at most ${LONGEST_AGE_MS} milliseconds from now.`);
  }
  return time;
}

function priorityIn({ priority }: Members): Priority {
  if (priority === undefined || priority === null) return 'normal';
  const known = PRIORITIES.find((one) => one === priority);
  if (known !== undefined) return known;
  throw new InvalidInvocation('priority', `priority must be ${PRIORITIES.join(', ')}.`);
}

function kindsIn({ retry_on: kinds }: Members): readonly Retryable[] {
  if (kinds === undefined || kinds === null) return RETRYABLE;
  const known = (kind: unknown): kind is Retryable => RETRYABLE.includes(kind as Retryable);
  if (Array.isArray(kinds) && kinds.length <= RETRYABLE.length && kinds.every(known)) return [...new Set(kinds)];
  throw new InvalidInvocation('retry_on', `retry_on must be a list of ${RETRYABLE.join(', ')}; empty: of none.`);
}

const LONGEST_URL = 2_048;

function callbackIn({ callback_url: url }: Members, { secrets, allow }: CallbacksConfig): string | null {
  if (url === undefined || url === null) return null;
  if (secrets.length === 0) {
    throw new InvalidInvocation(
      'callback_url',
      'This installation has no callbacks: set CALLBACKS_SECRETS to have them.',
    );
  }
  // As it is called: what is no character of a URL is escaped in it, as is what PostgreSQL has no text for.
  const href = typeof url === 'string' && URL.canParse(url) ? new URL(url).href : undefined;
  if (href !== undefined && href.length > LONGEST_URL) {
    throw new InvalidInvocation('callback_url', `callback_url must be at most ${LONGEST_URL} characters long.`);
  }
  const fault = href === undefined ? 'is no URL' : targetFault(href, allow);
  if (href !== undefined && fault === undefined) return href;
  throw new InvalidInvocation('callback_url', `callback_url ${fault}.`);
}
