import type { FunctionId } from '#libs/orchestrator/workload.js';
import type { Choice } from '../traffic/traffic.js';

/** `dead`: it has failed for good. */
export const STATUSES = ['waiting', 'running', 'succeeded', 'dead', 'cancelled'] as const;
export type Status = (typeof STATUSES)[number];

/** Which revision runs a call again. */
export const REPLAYED = ['same', 'newest'] as const;
export type Replayed = (typeof REPLAYED)[number];

/** From the last to the first; what is kept is the index. */
export const PRIORITIES = ['low', 'normal', 'high'] as const;
export type Priority = (typeof PRIORITIES)[number];

/** Why an attempt may fail that counts: the handler raised or returned what has no JSON form, took too long, or its worker ended. */
export const RETRYABLE = ['error', 'timeout', 'crash'] as const;
export type Retryable = (typeof RETRYABLE)[number];

/** How often, why and when a call is tried again. */
export interface RetryPolicy {
  readonly maxAttempts: number;
  readonly on: readonly Retryable[];
  /** The longest pause after the first attempt; it doubles with each. */
  readonly backoffMs: number;
}

/** `failed`: it is not tried again. */
export const CALLBACK_STATUSES = ['waiting', 'delivered', 'failed'] as const;
export type CallbackStatus = (typeof CALLBACK_STATUSES)[number];

/** What a callback sends: the invocation as it is, or as a CloudEvent in one of the two modes of its HTTP binding. */
export const CALLBACK_FORMATS = ['plain', 'binary', 'structured'] as const;
export type CallbackFormat = (typeof CALLBACK_FORMATS)[number];

/** What an attempt has failed with, as the row keeps it. */
export interface AttemptError {
  readonly code: string;
  readonly detail: string;
  readonly [extra: string]: unknown;
}

/** What an HTTP call calls, without its query, which may hold a secret. */
export interface CalledPath {
  readonly method: string;
  readonly path: string;
}

/** A call for later as its row has it, without what it was given and what came out. */
export interface Invocation {
  readonly id: string;
  readonly functionId: FunctionId;
  readonly status: Status;
  readonly priority: number;
  readonly createdAt: Date;
  readonly createdBy: string | null;
  readonly requestId: string;
  readonly idempotencyKey: string | null;
  readonly dueAt: Date;
  readonly expiresAt: Date;
  readonly retry: RetryPolicy;
  /** The revision or the tag that it has asked for; null: what its function's traffic gives it when it runs. */
  readonly choice: Choice | null;
  /** The revision that served when it came. */
  readonly enqueuedRevision: number;
  readonly payloadBytes: number;
  /** Attempts that have begun and count. */
  readonly attempt: number;
  readonly startedAt: Date | null;
  readonly endedAt: Date | null;
  /** The revision that ran it last. */
  readonly revision: number | null;
  readonly resultBytes: number | null;
  readonly error: AttemptError | null;
  readonly cancelRequested: boolean;
  /** Of an HTTP call or an event: what is called. Null: it has a payload. */
  readonly http: CalledPath | null;
  readonly callbackUrl: string | null;
  readonly callbackFormat: CallbackFormat;
  /** Null: it has not ended, or nobody wants to be told. */
  readonly callbackStatus: CallbackStatus | null;
  readonly callbackAttempt: number;
  readonly callbackError: string | null;
  /** The schedule that made it, and the time that it was made for. */
  readonly schedule: string | null;
  readonly scheduledFor: Date | null;
}

export function isOver(status: Status): boolean {
  return status !== 'waiting' && status !== 'running';
}

export const RESULT_INVALID = 'handler_result_invalid';

/** Why an attempt that counts has failed, by the code of its error. */
const KINDS: ReadonlyMap<string, Retryable> = new Map([
  ['handler_error', 'error'],
  [RESULT_INVALID, 'error'],
  ['handler_response_invalid', 'error'],
  ['handler_timeout', 'timeout'],
  ['worker_crashed', 'crash'],
]);

/** Nothing that comes later changes these. */
const FINAL: ReadonlySet<string> = new Set([
  'function_not_found',
  'revision_without_traffic',
  'invalid_payload',
  'invalid_event',
  'invalid_request',
  'http_unsupported',
  'websocket_unsupported',
  'payload_too_large',
]);

/** What becomes of a call whose attempt has failed. */
export type Next =
  /** It waits, for so long; the attempt counts unless it was never made. */
  { readonly status: 'waiting'; readonly inMs: number; readonly counts: boolean } | { readonly status: 'dead' };

/** Pauses of calls that couldn't be tried, for which they are not to blame. */
const POSTPONED_MS = 500;
const MOST_POSTPONED_MS = 30_000;

/**
 * Decides about a call by the code of its attempt's error. What keeps a call from being tried (no slot, no replica, no
 * engine, a function that is switched off) takes no attempt from it: it waits as long as its age allows.
 *
 * @param attempt how many have been made with this one
 * @param postponed how often in a row it couldn't be tried
 * @param random in [0, 1)
 */
export function nextOf(
  code: string,
  { retry, attempt, postponed }: Pick<Invocation, 'retry' | 'attempt'> & { readonly postponed: number },
  maxBackoffMs: number,
  random: number,
): Next {
  if (FINAL.has(code)) return { status: 'dead' };
  const kind = KINDS.get(code);
  if (kind === undefined) {
    return { status: 'waiting', inMs: jittered(POSTPONED_MS, postponed, MOST_POSTPONED_MS, random), counts: false };
  }
  if (!retry.on.includes(kind) || attempt >= retry.maxAttempts) return { status: 'dead' };
  return { status: 'waiting', inMs: jittered(retry.backoffMs, attempt - 1, maxBackoffMs, random), counts: true };
}

/**
 * A pause between nothing and an end that doubles each time (full jitter:
 * https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), so that calls that failed together don't
 * come back together.
 */
export function jittered(firstMs: number, times: number, mostMs: number, random: number): number {
  return Math.floor(Math.min(mostMs, firstMs * 2 ** Math.min(times, 40)) * random);
}
