import { type InvocationsConfig, LONGEST_AGE_MS, type LimitsConfig } from '#libs/config/config.js';
import { JsonStrings } from '#libs/json/json-scan.js';
import { timeOf } from '#libs/json/time.js';
import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { parseCall, readBody } from '../gateway/call-body.js';
import { checkBinary, checkStructured, eventModeOf } from '../gateway/cloud-event.js';
import { CallCancelled, PayloadTooLarge } from '../gateway/errors.js';
import { readBounded } from '../http/body.js';
import type { MemoryReservation } from '../memory/memory-budget.js';
import { InvalidInvocation } from './errors.js';
import { type CalledPath, PRIORITIES, type Priority } from './invocation.js';
import {
  callbackFault,
  type InvocationPolicy,
  POLICY_NAMES,
  policyFault,
  type ResolvedPolicy,
  resolvePolicy,
} from './invocation-policy.js';
import { packed, type RequestHead } from './kept-http.js';

/** What a call for later says of itself beside its payload. */
export const OPTIONS = ['delay_ms', 'not_before', 'priority', ...POLICY_NAMES] as const;

/** What a request asks for. */
export interface InvocationRequest extends ResolvedPolicy {
  /** `{"payload": "…"}`, as workers get it, or a {@link packed} HTTP call. */
  readonly body: Buffer;
  readonly payloadBytes: number;
  /** Of an HTTP call: what is called. Null: it has a payload. */
  readonly http: CalledPath | null;
  /** When it is due: so long after it came, or at this moment; at once without either. */
  readonly delayMs: number;
  readonly notBefore: Date | null;
  readonly priority: number;
  readonly key: string | null;
  /** SHA-256 of all of the request, where it has a key. */
  readonly digest: Buffer;
}

export type RequestLimits = Pick<LimitsConfig, 'payloadBytes'> &
  Pick<InvocationsConfig, 'maxAttempts' | 'backoffMs' | 'maxAgeMs' | 'callbacks'> & {
    /** Of the function, for calls that say nothing else. */
    readonly defaults: InvocationPolicy;
  };

const NOTHING = Buffer.alloc(0);
const KEY = /^[\x21-\x7e]{1,255}$/;

/** Throws {@link InvalidInvocation} with the member at fault, or what a call's body may be refused with. */
export async function readInvocation(
  request: IncomingMessage,
  limits: RequestLimits,
  reservation: Pick<MemoryReservation, 'add'>,
): Promise<InvocationRequest> {
  const key = keyIn(request);
  const body = await readBody(request, limits.payloadBytes, reservation);
  return { ...invocationIn(body, limits), key, digest: key === null ? NOTHING : digestOf(request, body) };
}

/** The same of an HTTP call, which its function's defaults say the rest of. `headers`: what its handler gets. */
export async function readHttpInvocation(
  request: IncomingMessage,
  head: RequestHead,
  limits: RequestLimits,
  reservation: Pick<MemoryReservation, 'add'>,
): Promise<InvocationRequest> {
  const key = keyIn(request);
  const mode = eventModeOf(request.headers);
  if (mode === 'binary') checkBinary(request.headers);
  const errors = { tooLarge: () => new PayloadTooLarge(limits.payloadBytes), cutOff: () => new CallCancelled() };
  const body = await readBounded(request, limits.payloadBytes, reservation, errors, 'any');
  if (mode === 'structured') checkStructured(body, request.headers);
  const { method, target } = head;
  return {
    body: packed(head, body),
    payloadBytes: body.length,
    http: { method, path: target.replace(/\?.*$/, '') },
    ...{ delayMs: 0, notBefore: null, priority: PRIORITIES.indexOf('normal') },
    ...policyIn({}, limits),
    key,
    digest: key === null ? NOTHING : sha256(saidBy(request, method, target), body),
  };
}

/** By which a request that comes again is known. */
export function keyIn({ headers }: Pick<IncomingMessage, 'headers'>): string | null {
  const { 'idempotency-key': key } = headers;
  if (key === undefined) return null;
  if (typeof key === 'string' && KEY.test(key)) return key;
  throw new InvalidInvocation('Idempotency-Key', 'Idempotency-Key must be 1 to 255 printable ASCII characters.');
}

/** The query too: it may name a revision. */
function digestOf({ url = '' }: IncomingMessage, body: Buffer): Buffer {
  return sha256(queryOf(url), body);
}

/** Attributes of an event are headers, and the query may name a revision. */
function saidBy({ url = '', headers }: IncomingMessage, method: string, target: string): string {
  const attributes = Object.entries(headers).filter(([name]) => name.startsWith('ce-') || name === 'content-type');
  return JSON.stringify([method, target, queryOf(url), attributes.toSorted(([a], [b]) => (a < b ? -1 : 1))]);
}

function queryOf(url: string): string {
  return url.includes('?') ? url.slice(url.indexOf('?')) : '';
}

function sha256(line: string, body: Buffer): Buffer {
  return createHash('sha256').update(`${line}\n`).update(body).digest();
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
    http: null,
    priority: PRIORITIES.indexOf(priorityIn(members)),
    ...policyIn(members, limits),
  };
}

/** Throws {@link InvalidInvocation}, also where what its function says can't be done here any more. */
export function policyIn(members: Members, limits: Omit<RequestLimits, 'payloadBytes'>): ResolvedPolicy {
  const fault = policyFault(members);
  if (fault !== undefined) throw new InvalidInvocation(fault.field, fault.message);
  const policy = resolvePolicy(limits, members, limits.defaults);
  const { callbackUrl: url } = policy;
  const field = members['callback_url'] === undefined ? 'invocation_defaults.callback_url' : 'callback_url';
  const refusal = url === null ? undefined : callbackFault(url, limits.callbacks, field);
  if (refusal !== undefined) throw new InvalidInvocation(field, refusal);
  return policy;
}

const PREFIX = Buffer.from('{"payload":');
const SUFFIX = Buffer.from('}');

export type Members = Readonly<Record<string, unknown>>;

export function wholeIn(members: Members, name: string, least: number, most: number): number | undefined {
  const { [name]: value } = members;
  if (value === undefined || value === null) return undefined;
  if (Number.isInteger(value) && (value as number) >= least && (value as number) <= most) return value as number;
  throw new InvalidInvocation(name, `${name} must be a whole number from ${least} to ${most}.`);
}

function timeIn(members: Members, name: string): Date | null {
  const { [name]: value } = members;
  if (value === undefined || value === null) return null;
  const time = timeOf(value);
  if (time === undefined) {
    throw new InvalidInvocation(name, `${name} must be a time such as 2026-11-23T12:00:00Z (RFC 3339).`);
  }
  const last = Date.now() + LONGEST_AGE_MS;
  if (time.getTime() > last) {
    throw new InvalidInvocation(name, `${name} must be at most ${LONGEST_AGE_MS} milliseconds from now.`);
  }
  return time;
}

export function priorityIn({ priority }: Members): Priority {
  if (priority === undefined || priority === null) return 'normal';
  const known = PRIORITIES.find((one) => one === priority);
  if (known !== undefined) return known;
  throw new InvalidInvocation('priority', `priority must be ${PRIORITIES.join(', ')}.`);
}
