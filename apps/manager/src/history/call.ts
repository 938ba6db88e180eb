import type { FunctionId } from '#libs/orchestrator/workload.js';
import { CALL_KINDS, type CallKind } from '../gateway/call-ends.js';
import { CANCELLED } from './minutes.js';

/** What became of a call. */
export const CALL_STATUSES = ['succeeded', 'failed', 'cancelled'] as const;
export type CallStatus = (typeof CALL_STATUSES)[number];

/** A call as the history has it. */
export interface KeptCall {
  readonly id: string;
  readonly functionId: FunctionId;
  readonly kind: CallKind;
  readonly requestId: string;
  readonly createdBy: string | null;
  readonly startedAt: Date;
  readonly totalMs: number;
  readonly queueMs: number;
  readonly handlerMs: number;
  readonly isCold: boolean;
  /** The revision that ran it, or, where none did, that had the function's calls when it came. */
  readonly revision: number;
  readonly replica: string | null;
  /** Null: it had an answer. */
  readonly code: string | null;
  readonly detail: string | null;
  readonly httpStatus: number | null;
  readonly requestBytes: number;
  readonly answerBytes: number;
  readonly attempt: number | null;
}

/** The same with what was kept of it beside. */
export interface KeptCallWithPayload extends KeptCall {
  /** What the handler got; null: it wasn't kept. */
  readonly payload: Buffer | null;
  readonly isRedacted: boolean | null;
  /** What the worker has answered, `{"result": …}`; null: it wasn't kept. */
  readonly result: Buffer | null;
}

export function statusOf({ code }: Pick<KeptCall, 'code'>): CallStatus {
  if (code === null) return 'succeeded';
  return code === CANCELLED ? 'cancelled' : 'failed';
}

/** A row as it is read: what takes fewer bytes than it says. */
export interface CallRow extends Omit<KeptCall, 'kind' | 'startedAt' | 'requestBytes' | 'answerBytes'> {
  readonly kind: number;
  readonly requestBytes: string;
  readonly answerBytes: string;
}

export const CALL_COLUMNS = `id, function_id AS "functionId", kind, request_id AS "requestId", created_by AS "createdBy",
  total_ms AS "totalMs", queue_ms AS "queueMs", handler_ms AS "handlerMs", is_cold AS "isCold", revision, replica, code,
  detail, http_status AS "httpStatus", request_bytes AS "requestBytes", answer_bytes AS "answerBytes", attempt`;

export function keptCall<Row extends CallRow>(row: Row): Omit<Row, keyof CallRow> & KeptCall {
  return {
    ...row,
    kind: CALL_KINDS[row.kind] ?? 'execute',
    startedAt: momentOf(row.id),
    totalMs: rounded(row.totalMs),
    queueMs: rounded(row.queueMs),
    handlerMs: rounded(row.handlerMs),
    requestBytes: Number(row.requestBytes),
    answerBytes: Number(row.answerBytes),
  };
}

/** Ids are UUIDs of version 7, which begin with 48 bits of milliseconds (RFC 9562). */
export function momentOf(id: string): Date {
  return new Date(Number.parseInt(`${id.slice(0, 8)}${id.slice(9, 13)}`, 16));
}

function rounded(ms: number): number {
  return Math.round(ms * 1_000) / 1_000;
}
