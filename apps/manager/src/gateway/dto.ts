import { ApiProperty, type OpenAPIObject } from '@nestjs/swagger';

export class ExecuteRequestDto {
  @ApiProperty({
    description: 'Handed to the handler as it is. Its limit is 6 MiB of UTF-8 unless configured otherwise.',
    maxLength: 64 * 1024 * 1024,
    example: '{"name": "Ada"}',
  })
  payload: string;
}

/** Not a class: whatever decorators say of a property, they give it a type, and a result may have any. */
export const EXECUTION_COMPONENTS: NonNullable<OpenAPIObject['components']> = {
  schemas: {
    ExecuteResponse: {
      type: 'object',
      required: ['result'],
      properties: { result: { description: "The handler's return value: any JSON, null too." } },
      example: { result: { greeting: 'Hello, Ada!' } },
    },
  },
};
