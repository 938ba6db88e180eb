import { LONGEST_AGE_MS } from '#libs/config/config.js';
import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { isUtf8 } from 'node:buffer';
import { CALL_KINDS, type CallKind } from '../gateway/call-ends.js';
import { type CallStatus, type KeptCall, type KeptCallWithPayload, statusOf } from '../history/call.js';
import { AttemptDto, ranOf, waitsOf } from '../history/dto.js';
import {
  type AttemptError,
  CALLBACK_FORMATS,
  CALLBACK_STATUSES,
  type CallbackFormat,
  type CallbackStatus,
  type Invocation,
  PRIORITIES,
  type Priority,
  REPLAYED,
  type Replayed,
  type Status,
} from './invocation.js';
import { CallPolicyDto, shownUrl } from './invocation-policy.js';
import { ALL_STATUSES } from './invocation-query.js';
import { type AnswerHead, unpacked } from './kept-http.js';

/** A call for later as requests ask for it. */
export class InvokeLaterDto extends CallPolicyDto {
  @ApiProperty({
    description: 'Handed to the handler as it is. Its limit is 6 MiB of UTF-8 unless configured otherwise.',
    maxLength: 64 * 1024 * 1024,
    example: '{"name": "Ada"}',
  })
  payload: string;

  @ApiPropertyOptional({
    type: 'integer',
    minimum: 0,
    maximum: LONGEST_AGE_MS,
    description: 'Not before so many milliseconds have passed.',
  })
  delay_ms?: number;

  @ApiPropertyOptional({
    type: String,
    format: 'date-time',
    description: 'Not before this moment, at most 30 days ahead; in place of `delay_ms`.',
  })
  not_before?: string;

  @ApiPropertyOptional({
    type: String,
    enum: PRIORITIES,
    description: 'Of calls that are due, those of a higher priority begin first. `normal` where it is left out.',
  })
  priority?: Priority;
}

export class CallbackDto {
  @ApiProperty({
    description: 'Without its query, which may hold a secret.',
    example: 'https://example.org/hooks/resized',
  })
  url: string;

  @ApiProperty({ type: String, enum: CALLBACK_FORMATS, example: 'plain' })
  format: CallbackFormat;

  @ApiProperty({
    type: String,
    enum: CALLBACK_STATUSES,
    nullable: true,
    description: 'Null while the call has not ended. `failed`: it is not tried again.',
    example: 'delivered',
  })
  status: CallbackStatus | null;

  @ApiProperty({ type: 'integer', minimum: 0, description: 'Attempts that have begun.', example: 1 })
  attempt: number;

  @ApiProperty({
    type: String,
    nullable: true,
    description: 'Why the last attempt failed.',
    example: 'it answered 503',
  })
  error: string | null;
}

export class InvocationErrorDto {
  @ApiProperty({
    description:
      'The code of a problem, or `call_cancelled` (its caller left), `invocation_expired` or `attempt_lost`. More members as in that problem.',
    example: 'handler_error',
  })
  code: string;

  @ApiProperty({ example: 'ValueError: no name given' })
  detail: string;
}

export class CalledPathDto {
  @ApiProperty({ example: 'POST' })
  method: string;

  @ApiProperty({ description: 'Below the function, without the query.', example: '/orders' })
  path: string;
}

export class KeptHeaderDto {
  @ApiProperty({ example: 'content-type' })
  name: string;

  @ApiProperty({ example: 'text/plain; charset=utf-8' })
  value: string;
}

/** What an HTTP call was answered with. */
export class KeptAnswerDto {
  @ApiProperty({ type: 'integer', minimum: 200, maximum: 499, example: 200 })
  status: number;

  @ApiProperty({ type: [KeptHeaderDto], description: 'In their order; a name may come twice.' })
  headers: KeptHeaderDto[];

  @ApiPropertyOptional({ description: 'Where it is UTF-8, and not too large to be kept.', example: 'ordered' })
  body?: string;

  @ApiPropertyOptional({ description: 'A body that is no UTF-8, in base64.', example: 'iVBORw0KGgo=' })
  body_base64?: string;
}

/** A call, for later or at once. */
export class InvocationDto {
  @ApiProperty({
    pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$',
    example: '019356b4-1c30-7b2e-9f4c-5d2f4a6e8b10',
  })
  id: string;

  @ApiProperty({ description: "The function's id.", example: 'mfrggzdfmztwq2lk' })
  function_id: string;

  @ApiProperty({
    type: String,
    enum: ALL_STATUSES,
    description:
      '`dead`: a call for later that has failed for good, and waits for a redrive or its end. `failed`: a call at once.',
    example: 'waiting',
  })
  status: Status | CallStatus;

  @ApiPropertyOptional({ type: String, enum: CALL_KINDS, description: 'How it came in.', example: 'later' })
  kind?: CallKind;

  @ApiProperty({ type: String, enum: PRIORITIES, example: 'normal' })
  priority: Priority;

  @ApiProperty({ format: 'date-time', example: '2026-11-23T12:00:00.000Z' })
  created_at: string;

  @ApiProperty({ type: String, nullable: true, description: 'The name of the key that sent it.', example: 'ci' })
  created_by: string | null;

  @ApiProperty({
    description: 'When it is or was due; of one that is tried again, its next attempt.',
    format: 'date-time',
    example: '2026-11-23T12:00:00.000Z',
  })
  due_at: string;

  @ApiProperty({
    description: 'When it is given up if it still waits.',
    format: 'date-time',
    example: '2026-11-24T12:00:00.000Z',
  })
  expires_at: string;

  @ApiProperty({ type: 'integer', minimum: 0, description: 'Attempts that have begun and count.', example: 1 })
  attempt: number;

  @ApiProperty({ type: 'integer', minimum: 1, example: 3 })
  max_attempts: number;

  @ApiProperty({
    type: String,
    format: 'date-time',
    nullable: true,
    description: 'Of its last attempt.',
    example: '2026-11-23T12:00:00.004Z',
  })
  started_at: string | null;

  @ApiProperty({ type: String, format: 'date-time', nullable: true, example: '2026-11-23T12:00:00.010Z' })
  ended_at: string | null;

  @ApiProperty({
    type: 'integer',
    minimum: 1,
    nullable: true,
    description: 'The revision that ran it last.',
    example: 3,
  })
  revision: number | null;

  @ApiProperty({
    type: 'integer',
    minimum: 1,
    description: 'The revision that had the calls when it came.',
    example: 3,
  })
  enqueued_revision: number;

  @ApiProperty({ type: 'integer', minimum: 0, example: 15 })
  payload_bytes: number;

  @ApiProperty({
    type: 'integer',
    minimum: 0,
    nullable: true,
    description: 'Of a result. One that is larger than INVOCATIONS_RESULT_BYTES (1 MiB) is not kept.',
    example: 38,
  })
  result_bytes: number | null;

  @ApiProperty({
    type: InvocationErrorDto,
    nullable: true,
    description: 'What its last attempt that failed has failed with.',
  })
  error: InvocationErrorDto | null;

  @ApiProperty({
    type: String,
    nullable: true,
    description: 'The Idempotency-Key that it came with.',
    example: 'order-4711',
  })
  idempotency_key: string | null;

  @ApiProperty({
    description: 'The id of the request that it came with.',
    maxLength: 64,
    example: '6f9619ff-8b86-4011-b42d-00cf4fc964ff',
  })
  request_id: string;

  @ApiPropertyOptional({
    description:
      "The handler's return value: any JSON, null too. Only of one that succeeded, where its result is kept.",
    example: { greeting: 'Hello, Ada!' },
  })
  result?: unknown;

  @ApiProperty({
    type: CalledPathDto,
    nullable: true,
    description: 'What an HTTP call or an event calls; null: it has a payload.',
  })
  http: CalledPathDto | null;

  @ApiPropertyOptional({
    type: KeptAnswerDto,
    description: 'In place of `result`: what an HTTP call or an event was answered with, once it has succeeded.',
  })
  response?: KeptAnswerDto;

  @ApiProperty({ type: CallbackDto, nullable: true, description: 'Where somebody is to be told of its end.' })
  callback: CallbackDto | null;

  @ApiProperty({ type: String, nullable: true, description: 'The schedule that made it.', example: 'nightly' })
  schedule: string | null;

  @ApiProperty({
    type: String,
    format: 'date-time',
    nullable: true,
    description: 'The time of its schedule that it was made for.',
    example: '2026-11-23T03:00:00.000Z',
  })
  scheduled_for: string | null;

  @ApiPropertyOptional({
    type: Number,
    description:
      'How long it took from its head to the end of its answer, in milliseconds. As the next six, of calls at once.',
    example: 5.9,
  })
  duration_ms?: number;

  @ApiPropertyOptional({ type: Number, description: 'Of that, waiting for a slot of a replica.', example: 0.02 })
  queue_ms?: number;

  @ApiPropertyOptional({ type: Number, description: 'Waiting for a replica, as there was none.', example: 0 })
  cold_start_ms?: number;

  @ApiPropertyOptional({ type: Number, description: 'In the worker.', example: 5.1 })
  handler_ms?: number;

  @ApiPropertyOptional({
    type: String,
    nullable: true,
    description: 'The id of the replica that ran it, on its engine.',
    example: '4f1c9a4be7d1',
  })
  replica?: string | null;

  @ApiPropertyOptional({
    type: 'integer',
    nullable: true,
    description:
      'What its handler has answered to a call over HTTP. One that answered has succeeded, whatever it says.',
    example: 200,
  })
  http_status?: number | null;

  @ApiPropertyOptional({
    type: String,
    description: 'What its handler got. Only of one alone, where its function keeps it (`history`), redacted.',
    example: '{"name": "Ada"}',
  })
  payload?: string;

  @ApiPropertyOptional({
    type: [AttemptDto],
    description: 'Of a call for later alone: its attempts as the history has them, the newest first.',
  })
  attempts?: AttemptDto[];

  /** A call that has ended and was none for later: it had one attempt, and nothing was to be waited for. */
  static ofCall(call: KeptCall): InvocationDto {
    const startedAt = call.startedAt.toISOString();
    const endedAt = new Date(call.startedAt.getTime() + call.totalMs).toISOString();
    const status = statusOf(call);
    return {
      id: call.id,
      function_id: call.functionId,
      status,
      priority: 'normal',
      created_at: startedAt,
      created_by: call.createdBy,
      due_at: startedAt,
      expires_at: endedAt,
      attempt: 1,
      max_attempts: 1,
      started_at: startedAt,
      ended_at: endedAt,
      revision: ranOf(call),
      enqueued_revision: Math.max(1, call.revision),
      payload_bytes: call.requestBytes,
      result_bytes: status === 'succeeded' ? call.answerBytes : null,
      error: call.code === null ? null : { code: call.code, detail: call.detail ?? '' },
      idempotency_key: null,
      request_id: call.requestId,
      http: null,
      callback: null,
      schedule: null,
      scheduled_for: null,
      kind: call.kind,
      duration_ms: call.totalMs,
      ...waitsOf(call),
      replica: call.replica,
      http_status: call.httpStatus,
    };
  }

  static of(row: Invocation): InvocationDto {
    return {
      id: row.id,
      function_id: row.functionId,
      status: row.status,
      priority: PRIORITIES[row.priority] ?? 'normal',
      created_at: row.createdAt.toISOString(),
      created_by: row.createdBy,
      due_at: row.dueAt.toISOString(),
      expires_at: row.expiresAt.toISOString(),
      attempt: row.attempt,
      max_attempts: row.retry.maxAttempts,
      started_at: row.startedAt?.toISOString() ?? null,
      ended_at: row.endedAt?.toISOString() ?? null,
      revision: row.revision,
      enqueued_revision: row.enqueuedRevision,
      payload_bytes: row.payloadBytes,
      result_bytes: row.resultBytes,
      error: row.error satisfies AttemptError | null,
      idempotency_key: row.idempotencyKey,
      request_id: row.requestId,
      http: row.http,
      schedule: row.schedule,
      scheduled_for: row.scheduledFor?.toISOString() ?? null,
      callback:
        row.callbackUrl === null
          ? null
          : {
              url: shownUrl(row.callbackUrl),
              format: row.callbackFormat,
              status: row.callbackStatus,
              attempt: row.callbackAttempt,
              error: row.callbackError,
            },
      kind: row.schedule === null ? 'later' : 'schedule',
    };
  }
}

/** Which dead calls shall wait again. */
export class RedriveDto {
  @ApiPropertyOptional({
    type: [String],
    maxItems: 1_000,
    description: 'These only. Without it all dead ones, the oldest first.',
  })
  ids?: string[];
}

export class RedrivenDto {
  @ApiProperty({ type: 'integer', minimum: 0, description: 'How many wait again.', example: 12 })
  redriven: number;
}

/** What a replay asks for. */
export class ReplayDto {
  @ApiPropertyOptional({
    type: String,
    enum: REPLAYED,
    description: 'Which revision shall run it: the one that did, or the newest that has calls (unless it is said).',
  })
  revision?: Replayed;
}

/** A call as JSON, with the bytes of its result as the worker gave them, `{"result": …`, before what is known of it. */
export function invocationJson(row: Invocation, result: Buffer | null, attempts?: readonly KeptCall[]): Buffer {
  const known = InvocationDto.of(row);
  const shown = attempts === undefined ? known : { ...known, attempts: attempts.map((one) => AttemptDto.of(one)) };
  if (result !== null && row.http !== null) {
    return Buffer.from(JSON.stringify({ response: answerOf(result, row.resultBytes), ...shown }));
  }
  return jsonWith(shown, result);
}

/** The same of a call at once. */
export function callJson({ payload, result, ...call }: KeptCallWithPayload): Buffer {
  const shown = InvocationDto.ofCall(call);
  return jsonWith(payload === null ? shown : { ...shown, payload: payload.toString() }, result);
}

function jsonWith(dto: InvocationDto, result: Buffer | null): Buffer {
  const shown = Buffer.from(JSON.stringify(dto));
  if (result === null) return shown;
  return Buffer.concat([result.subarray(0, result.lastIndexOf(0x7d)), Buffer.from(','), shown.subarray(1)]);
}

function answerOf(kept: Buffer, bytes: number | null): KeptAnswerDto {
  const { head, body } = unpacked<AnswerHead>(kept);
  const { status, headers: flat } = head;
  const headers = flat.flatMap((name, index) => (index % 2 === 0 ? [{ name, value: flat[index + 1] ?? '' }] : []));
  // Of one that is too large only its head is kept.
  if (body.length !== bytes) return { status, headers };
  return isUtf8(body)
    ? { status, headers, body: body.toString() }
    : { status, headers, body_base64: body.toString('base64') };
}
