import { ApiProperty, IntersectionType } from '@nestjs/swagger';
import { CALL_STATUSES, type CallStatus, type KeptCall, statusOf } from './call.js';
import type { Counted } from './history.repository.js';
import { quantileOf } from './minutes.js';
import type { Window } from './statistics-query.js';

/** How calls went. */
class CountsDto {
  @ApiProperty({ type: 'integer', minimum: 0, example: 1200 })
  calls: number;

  @ApiProperty({ type: 'integer', minimum: 0, description: 'Those that were answered with a problem.', example: 3 })
  errors: number;

  @ApiProperty({ type: 'integer', minimum: 0, description: 'Those whose callers left.', example: 0 })
  cancelled: number;

  @ApiProperty({ type: 'integer', minimum: 0, description: 'Those that found no replica.', example: 1 })
  cold_starts: number;

  @ApiProperty({
    type: Number,
    minimum: 0,
    description: 'Calls in a second of the time that is over, as far as it is kept.',
    example: 20,
  })
  per_second: number;

  @ApiProperty({
    type: Number,
    nullable: true,
    description:
      'What half of the calls took at most, in milliseconds, from head to answer; of attempts of calls for later, in the worker. A tenth off at worst. Null where no worker had one.',
    example: 4.2,
  })
  p50_ms: number | null;

  @ApiProperty({ type: Number, nullable: true, example: 9.1 })
  p95_ms: number | null;

  @ApiProperty({ type: Number, nullable: true, example: 31.5 })
  p99_ms: number | null;
}

export class StatisticsStepDto extends CountsDto {
  @ApiProperty({ format: 'date-time', description: 'When it begins.', example: '2026-11-23T12:00:00.000Z' })
  at: string;
}

class StatisticsWindowDto {
  @ApiProperty({ example: 'mfrggzdfmztwq2lk' })
  function_id: string;

  @ApiProperty({ format: 'date-time', example: '2026-11-23T11:01:00.000Z' })
  since: string;

  @ApiProperty({ format: 'date-time', example: '2026-11-23T12:01:00.000Z' })
  until: string;

  @ApiProperty({ type: 'integer', minimum: 60_000, description: 'How long each step is.', example: 60_000 })
  step_ms: number;

  @ApiProperty({ type: [StatisticsStepDto], description: 'The oldest first. Those without calls are left out.' })
  steps: StatisticsStepDto[];
}

/** How the calls of a function went: all of the time together, and step by step. */
export class StatisticsDto extends IntersectionType(StatisticsWindowDto, CountsDto) {}

export function statisticsOf(
  functionId: string,
  { since, until, stepSeconds }: Window,
  steps: readonly Counted[],
  { now, oldest }: { readonly now: number; readonly oldest: number },
): StatisticsDto {
  /** Of a time, what is over and kept. */
  const secondsOf = (from: number, to: number) =>
    Math.max(1, (Math.min(to, now) - Math.max(from, Math.min(oldest, now))) / 1_000);
  return {
    function_id: functionId,
    since: since.toISOString(),
    until: until.toISOString(),
    step_ms: stepSeconds * 1_000,
    ...countsOf(steps, secondsOf(since.getTime(), until.getTime())),
    steps: steps.map((step) => {
      const at = step.at.getTime();
      return { at: step.at.toISOString(), ...countsOf([step], secondsOf(at, at + stepSeconds * 1_000)) };
    }),
  };
}

function countsOf(steps: readonly Counted[], seconds: number): CountsDto {
  const sum = (of: (step: Counted) => number) => steps.reduce((total, step) => total + of(step), 0);
  const durations: number[] = [];
  for (const step of steps) step.durations.forEach((calls, n) => (durations[n] = (durations[n] ?? 0) + calls));
  const calls = sum((step) => step.calls);
  return {
    calls,
    errors: sum(({ failed }) => failed),
    cancelled: sum(({ cancelled }) => cancelled),
    cold_starts: sum(({ coldStarts }) => coldStarts),
    per_second: Number((calls / seconds).toPrecision(3)),
    p50_ms: quantileOf(durations, 0.5),
    p95_ms: quantileOf(durations, 0.95),
    p99_ms: quantileOf(durations, 0.99),
  };
}

/** One attempt of a call for later. */
export class AttemptDto {
  @ApiProperty({ example: '019356b4-1c34-7a11-8e02-77c1a2b3c4d5' })
  id: string;

  @ApiProperty({ type: 'integer', minimum: 1, example: 1 })
  attempt: number;

  @ApiProperty({ type: String, enum: CALL_STATUSES, example: 'failed' })
  status: CallStatus;

  @ApiProperty({
    type: String,
    nullable: true,
    description: 'The code of a problem, or `call_cancelled`: it was broken off.',
    example: 'handler_error',
  })
  code: string | null;

  @ApiProperty({ type: String, nullable: true, example: 'ValueError: no name given' })
  detail: string | null;

  @ApiProperty({ format: 'date-time', example: '2026-11-23T12:00:00.004Z' })
  started_at: string;

  @ApiProperty({ type: Number, description: 'Waiting for a slot of a replica.', example: 0.4 })
  queue_ms: number;

  @ApiProperty({ type: Number, description: 'Waiting for a replica.', example: 0 })
  cold_start_ms: number;

  @ApiProperty({ type: Number, description: 'In the worker.', example: 5.1 })
  handler_ms: number;

  @ApiProperty({ type: 'integer', minimum: 1, nullable: true, description: 'The revision that ran it.', example: 3 })
  revision: number | null;

  @ApiProperty({
    type: String,
    nullable: true,
    description: "The replica's id on its engine.",
    example: '4f1c9a4be7d1',
  })
  replica: string | null;

  static of(call: KeptCall): AttemptDto {
    return {
      id: call.id,
      attempt: call.attempt ?? 1,
      status: statusOf(call),
      code: call.code,
      detail: call.detail,
      started_at: call.startedAt.toISOString(),
      ...waitsOf(call),
      revision: ranOf(call),
      replica: call.replica,
    };
  }
}

/** Where a call's time went, in milliseconds. */
export function waitsOf({ isCold, queueMs, handlerMs }: KeptCall) {
  return {
    queue_ms: isCold ? 0 : queueMs,
    cold_start_ms: isCold ? queueMs : 0,
    handler_ms: handlerMs,
  };
}

/** The revision that ran it; null: none did. */
export function ranOf({ replica, revision }: KeptCall): number | null {
  return replica === null ? null : revision;
}
