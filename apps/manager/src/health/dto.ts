import { ApiProperty } from '@nestjs/swagger';

const DETAILS = { type: 'object', additionalProperties: { type: 'object', additionalProperties: true } } as const;

/** The answer of a health check. */
export class HealthDto {
  @ApiProperty({ enum: ['ok', 'error', 'shutting_down'], example: 'ok' })
  status: 'ok' | 'error' | 'shutting_down';

  @ApiProperty({ ...DETAILS, description: 'What is up.', example: { database: { status: 'up', elapsed_ms: 1 } } })
  info: Record<string, Record<string, unknown>>;

  @ApiProperty({ ...DETAILS, description: 'What is down, and why.', example: {} })
  error: Record<string, Record<string, unknown>>;

  @ApiProperty({ ...DETAILS, description: 'Both.', example: { database: { status: 'up', elapsed_ms: 1 } } })
  details: Record<string, Record<string, unknown>>;
}
