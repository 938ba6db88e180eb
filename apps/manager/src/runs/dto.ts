import { ApiProperty } from '@nestjs/swagger';
import { LogRecordDto } from '../logs/dto/log-record.dto.js';

/** What came of a run. */
export class RunResultDto {
  @ApiProperty({ description: 'What the callable returned: any JSON value.', example: 'Hello, Ada!' })
  result: unknown;

  @ApiProperty({ description: 'How long its worker took for the call, in milliseconds.', minimum: 0, example: 3.4 })
  duration_ms: number;

  @ApiProperty({
    type: [LogRecordDto],
    description: 'What the code has printed, while it was loaded and while it ran: the newest 1,000 lines.',
  })
  logs: LogRecordDto[];
}
