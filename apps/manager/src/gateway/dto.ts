import { ApiProperty } from '@nestjs/swagger';

export class ExecuteRequestDto {
  @ApiProperty({ description: 'Handed to the handler as it is.', example: '{"name": "Ada"}' })
  payload: string;
}

export class ExecuteResponseDto {
  @ApiProperty({
    description: "The handler's return value, as JSON.",
    nullable: true,
    oneOf: [
      { type: 'object', additionalProperties: true },
      { type: 'array', items: {} },
      { type: 'string' },
      { type: 'number' },
      { type: 'boolean' },
    ],
    example: { greeting: 'Hello, Ada!' },
  })
  result: unknown;
}
