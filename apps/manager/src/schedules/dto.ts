import { LONGEST_AGE_MS } from '#libs/config/config.js';
import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { InvocationErrorDto } from '../invocations/dto.js';
import { CallPolicyDto, shownUrl } from '../invocations/invocation-policy.js';
import {
  CALLBACK_FORMATS,
  type CallbackFormat,
  PRIORITIES,
  type Priority,
  RETRYABLE,
  type Retryable,
  type Status,
  STATUSES,
} from '../invocations/invocation.js';
import {
  isCalendar,
  MISSED,
  type MissedReason,
  OVERLAPS,
  type Overlap,
  type Schedule,
  timesAfter,
  timingOf,
} from './schedule.js';
import {
  LEAST_INTERVAL_MS,
  LONGEST_CRON,
  MOST_FAILURES,
  MOST_INTERVAL_MS,
  MOST_JITTER_MS,
  MOST_PAYLOAD_BYTES,
} from './schedule-request.js';
import type { Firing } from './schedule.repository.js';

const STATES = ['active', 'paused', 'resting', 'disabled'] as const;
type State = (typeof STATES)[number];
const TIMES_SHOWN = 5;

/** A schedule as requests ask for it. */
export class SetScheduleDto extends CallPolicyDto {
  @ApiPropertyOptional({
    type: String,
    maxLength: LONGEST_CRON,
    description:
      'Five fields (minute, hour, day, month, weekday), six with the second first, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. This or `interval_ms`.',
  })
  cron?: string;

  @ApiPropertyOptional({
    type: 'integer',
    format: 'int64',
    minimum: LEAST_INTERVAL_MS,
    maximum: MOST_INTERVAL_MS,
    description: 'So far apart, counted from when it was set.',
  })
  interval_ms?: number;

  @ApiPropertyOptional({
    type: String,
    maxLength: 64,
    default: 'UTC',
    description: "The IANA name of the time zone of `cron`'s fields.",
  })
  timezone?: string;

  @ApiPropertyOptional({
    type: String,
    maxLength: MOST_PAYLOAD_BYTES,
    default: '',
    description: 'What the handler gets, at most 32 KiB of UTF-8.',
  })
  payload?: string;

  @ApiPropertyOptional({
    type: String,
    enum: OVERLAPS,
    default: 'skip',
    description:
      'What becomes of a time at which an earlier call still waits or runs: there is no call (`skip`), there is one once the earlier has ended (`queue`), or they run side by side (`allow`).',
  })
  overlap?: Overlap;

  @ApiPropertyOptional({
    type: 'integer',
    format: 'int64',
    minimum: 0,
    maximum: LONGEST_AGE_MS,
    default: 3_600_000,
    description:
      'How long after its time a call is still made where no manager was there in time. Of several such times the last one counts.',
  })
  catch_up_ms?: number;

  @ApiPropertyOptional({
    type: 'integer',
    minimum: 0,
    maximum: MOST_JITTER_MS,
    default: 0,
    description:
      'Each call is made at any moment up to so long after its time. Less than the time between two of them.',
  })
  jitter_ms?: number;

  @ApiPropertyOptional({
    type: 'integer',
    minimum: 0,
    maximum: MOST_FAILURES,
    default: 0,
    description: 'It pauses once so many of its calls in a row have failed for good; 0: never.',
  })
  pause_after_failures?: number;

  @ApiPropertyOptional({ type: Boolean, default: true, description: 'Without it, it rests until it is set again.' })
  enabled?: boolean;

  @ApiPropertyOptional({
    type: 'integer',
    minimum: 1,
    maximum: 999_999_999,
    description: 'The revision that shall run its calls, which must be among those of the traffic then.',
  })
  revision?: number;

  @ApiPropertyOptional({ type: String, maxLength: 63, description: 'The tag of the revision; in place of `revision`.' })
  tag?: string;

  @ApiPropertyOptional({ type: String, enum: PRIORITIES, description: 'Of its calls; `normal` where it is left out.' })
  priority?: Priority;
}

export class ScheduleRunDto {
  @ApiProperty({
    format: 'date-time',
    description: 'The time that the call was made for.',
    example: '2026-11-23T02:00:00.000Z',
  })
  scheduled_for: string;

  @ApiProperty({ format: 'date-time', description: 'When it was made.', example: '2026-11-23T02:00:00.004Z' })
  fired_at: string;

  @ApiProperty({ description: "The call's id.", example: '019356b4-1c30-7b2e-9f4c-5d2f4a6e8b10' })
  invocation_id: string;

  @ApiProperty({
    format: 'uri-reference',
    description: "The call's path.",
    example: '/invocations/019356b4-1c30-7b2e-9f4c-5d2f4a6e8b10',
  })
  invocation: string;

  @ApiProperty({
    type: String,
    enum: STATUSES,
    nullable: true,
    description: "The call's. Null where the call is gone and nobody had seen its end.",
    example: 'succeeded',
  })
  status: Status | null;

  @ApiProperty({ type: String, format: 'date-time', nullable: true, example: '2026-11-23T02:00:00.010Z' })
  started_at: string | null;

  @ApiProperty({ type: String, format: 'date-time', nullable: true, example: '2026-11-23T02:00:01.500Z' })
  ended_at: string | null;

  @ApiProperty({ type: InvocationErrorDto, nullable: true, description: 'What its last failed attempt failed with.' })
  error: InvocationErrorDto | null;

  static of({ scheduledFor, firedAt, invocationId, status, startedAt, endedAt, error }: Firing): ScheduleRunDto {
    return {
      scheduled_for: scheduledFor.toISOString(),
      fired_at: firedAt.toISOString(),
      invocation_id: invocationId,
      invocation: `/invocations/${invocationId}`,
      status,
      started_at: startedAt?.toISOString() ?? null,
      ended_at: endedAt?.toISOString() ?? null,
      error,
    };
  }
}

export class SchedulePauseDto {
  @ApiProperty({ format: 'date-time', example: '2026-11-23T02:00:01.500Z' })
  since: string;

  @ApiProperty({
    example: 'Its last 5 calls have failed for good (pause_after_failures: 5). Put it again to let it go on.',
  })
  reason: string;
}

export class ScheduleMissedDto {
  @ApiProperty({ type: 'integer', format: 'int64', minimum: 0, description: 'Times without a call.', example: 1 })
  count: number;

  @ApiProperty({
    type: String,
    format: 'date-time',
    nullable: true,
    description: 'The last of them.',
    example: '2026-11-22T02:00:00.000Z',
  })
  last_scheduled_for: string | null;

  @ApiProperty({
    type: String,
    enum: MISSED,
    nullable: true,
    description:
      'Why: an earlier call had not ended (`overlap`), no manager was there in time (`late`), or too many calls waited (`queue_full`).',
    example: 'late',
  })
  last_reason: MissedReason | null;
}

/** When a function is called without anybody calling it. */
export class ScheduleDto {
  @ApiProperty({ example: 'nightly' })
  name: string;

  @ApiProperty({ description: "The function's id.", example: 'mfrggzdfmztwq2lk' })
  function_id: string;

  @ApiProperty({
    type: String,
    enum: STATES,
    description:
      '`paused`: after failures; `resting`: its function is disabled; `disabled`: it is itself. Only an active one fires.',
    example: 'active',
  })
  status: State;

  @ApiProperty({ type: SchedulePauseDto, nullable: true })
  paused: SchedulePauseDto | null;

  @ApiProperty({ type: String, nullable: true, example: '0 3 * * *' })
  cron: string | null;

  @ApiProperty({ type: 'integer', format: 'int64', nullable: true, example: null })
  interval_ms: number | null;

  @ApiProperty({ example: 'Europe/Berlin' })
  timezone: string;

  @ApiProperty({ example: '{"job": "report"}' })
  payload: string;

  @ApiProperty({ type: String, enum: OVERLAPS, example: 'skip' })
  overlap: Overlap;

  @ApiProperty({ type: 'integer', format: 'int64', minimum: 0, example: 3_600_000 })
  catch_up_ms: number;

  @ApiProperty({ type: 'integer', minimum: 0, example: 0 })
  jitter_ms: number;

  @ApiProperty({ type: 'integer', minimum: 0, example: 5 })
  pause_after_failures: number;

  @ApiProperty({ example: true })
  enabled: boolean;

  @ApiProperty({ type: 'integer', minimum: 1, nullable: true, example: null })
  revision: number | null;

  @ApiProperty({ type: String, nullable: true, example: null })
  tag: string | null;

  @ApiProperty({ type: String, enum: PRIORITIES, example: 'normal' })
  priority: Priority;

  @ApiProperty({ type: 'integer', minimum: 1, example: 3 })
  max_attempts: number;

  @ApiProperty({ type: [String], enum: RETRYABLE, example: ['error', 'timeout', 'crash'] })
  retry_on: Retryable[];

  @ApiProperty({ type: 'integer', format: 'int64', minimum: 0, example: 1_000 })
  backoff_ms: number;

  @ApiProperty({ type: 'integer', format: 'int64', minimum: 1, example: 86_400_000 })
  max_age_ms: number;

  @ApiProperty({
    type: String,
    nullable: true,
    description: 'Without its query, which may hold a secret.',
    example: null,
  })
  callback_url: string | null;

  @ApiProperty({ type: String, enum: CALLBACK_FORMATS, example: 'plain' })
  callback_format: CallbackFormat;

  @ApiProperty({
    type: [String],
    description: 'The times that it fires for next, before jitter; none while it does not fire.',
    example: [
      '2026-11-24T02:00:00.000Z',
      '2026-11-25T02:00:00.000Z',
      '2026-11-26T02:00:00.000Z',
      '2026-11-27T02:00:00.000Z',
      '2026-11-28T02:00:00.000Z',
    ],
  })
  next_times: string[];

  @ApiProperty({ type: 'integer', format: 'int64', minimum: 0, description: 'Calls that it has made.', example: 41 })
  fired: number;

  @ApiProperty({ type: ScheduleMissedDto })
  missed: ScheduleMissedDto;

  @ApiProperty({ type: 'integer', minimum: 0, description: 'Calls in a row that have failed for good.', example: 0 })
  failures: number;

  @ApiPropertyOptional({ type: [ScheduleRunDto], description: 'The newest first; not in lists.' })
  last_runs?: ScheduleRunDto[];

  @ApiProperty({ format: 'date-time', example: '2026-10-13T08:12:00.000Z' })
  created_at: string;

  @ApiProperty({ format: 'date-time', example: '2026-10-13T08:12:00.000Z' })
  updated_at: string;

  @ApiProperty({ type: String, nullable: true, description: 'The name of the key that set it last.', example: 'ci' })
  updated_by: string | null;

  static of(row: Schedule, runs?: readonly Firing[]): ScheduleDto {
    return {
      name: row.name,
      function_id: row.functionId,
      status: stateOf(row),
      paused: row.pausedAt && { since: row.pausedAt.toISOString(), reason: whyPaused(row) },
      cron: row.cron,
      interval_ms: row.intervalMs,
      timezone: row.timezone,
      payload: (JSON.parse(row.body.toString('utf8')) as { payload: string }).payload,
      overlap: row.overlap,
      catch_up_ms: row.catchUpMs,
      jitter_ms: row.jitterMs,
      pause_after_failures: row.pauseAfterFailures,
      enabled: row.enabled,
      revision: row.choice?.revision ?? null,
      tag: row.choice?.tag ?? null,
      priority: PRIORITIES[row.priority] ?? 'normal',
      max_attempts: row.retry.maxAttempts,
      retry_on: [...row.retry.on],
      backoff_ms: row.retry.backoffMs,
      max_age_ms: row.maxAgeMs,
      callback_url: row.callbackUrl && shownUrl(row.callbackUrl),
      callback_format: row.callbackFormat,
      next_times: nextTimesOf(row).map((time) => time.toISOString()),
      fired: row.fired,
      missed: {
        count: row.missed,
        last_scheduled_for: row.lastMissedFor?.toISOString() ?? null,
        last_reason: row.lastMissedReason,
      },
      failures: row.failures,
      ...(runs !== undefined && { last_runs: runs.map((run) => ScheduleRunDto.of(run)) }),
      created_at: row.createdAt.toISOString(),
      updated_at: row.updatedAt.toISOString(),
      updated_by: row.updatedBy,
    };
  }
}

function stateOf({ enabled, pausedAt, isResting }: Schedule): State {
  if (!enabled) return 'disabled';
  if (pausedAt !== null) return 'paused';
  return isResting ? 'resting' : 'active';
}

function whyPaused({ failures, pauseAfterFailures }: Schedule): string {
  return `Its last ${failures} calls have failed for good (pause_after_failures: ${pauseAfterFailures}). Put it again to let it go on.`;
}

function nextTimesOf(row: Schedule): Date[] {
  if (row.nextAt === null || stateOf(row) !== 'active') return [];
  const isReadable = row.cron === null || isCalendar(row.cron, row.timezone);
  return [row.nextAt, ...(isReadable ? timesAfter(timingOf(row), row.nextAt, TIMES_SHOWN - 1) : [])];
}
