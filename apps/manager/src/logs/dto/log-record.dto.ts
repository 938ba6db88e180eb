import { ApiProperty } from '@nestjs/swagger';

/** `handler`: printed by the function's code and what it starts. `worker`: a note of the worker about itself. */
export const SOURCES = ['handler', 'worker'] as const;
export type LogSource = (typeof SOURCES)[number];

/** One line of a function's log. */
export class LogRecordDto {
  @ApiProperty({
    description: 'When it was written, RFC 3339 in UTC, with a fraction of nine digits.',
    format: 'date-time',
    example: '2026-11-23T12:00:00.123456789Z',
  })
  time: string;

  @ApiProperty({
    description: 'Which of the replicas wrote it; a replaced one never has the id of the one before.',
    example: '4f1c9a4be7d1',
  })
  replica: string;

  @ApiProperty({
    description: 'The revision that the replica serves; null where it is not known.',
    type: 'integer',
    nullable: true,
    minimum: 1,
    example: 1,
  })
  revision: number | null;

  @ApiProperty({
    description: "`handler`: the function's code and what it starts; `worker`: a note of the worker about itself.",
    enum: SOURCES,
    example: 'handler',
  })
  source: LogSource;

  @ApiProperty({
    description: 'null on Kubernetes, which keeps both as one.',
    type: String,
    nullable: true,
    enum: ['stdout', 'stderr', null],
    example: 'stdout',
  })
  stream: 'stdout' | 'stderr' | null;

  @ApiProperty({
    description: 'The request id of the call that printed it; null outside of calls.',
    type: String,
    nullable: true,
    maxLength: 64,
    example: '6f9619ff-8b86-4011-b42d-00cf4fc964ff',
  })
  request_id: string | null;

  @ApiProperty({
    description: 'The line without its end; one longer than 64 KiB is cut, and says so.',
    example: 'Hello, Ada!',
  })
  line: string;
}

/** In place of lines that were left out. */
export class MissedLinesDto {
  @ApiProperty({
    description: 'How many lines are missing here, because they came faster than they were read.',
    type: 'integer',
    minimum: 1,
    example: 42,
  })
  missed: number;
}
