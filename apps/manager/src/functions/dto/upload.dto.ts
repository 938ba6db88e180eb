import { ApiProperty } from '@nestjs/swagger';

/** The form of an upload, as the OpenAPI document describes it. */
export class UploadDto {
  @ApiProperty({
    type: 'string',
    format: 'binary',
    description: 'One Python source file, UTF-8. Its own name is ignored.',
  })
  python_file: Blob;

  @ApiProperty({ description: 'The callable inside the file that takes the payload.', example: 'handle' })
  function_name: string;

  @ApiProperty({
    type: 'integer',
    minimum: 1,
    required: false,
    description: 'Time limit of one call, in milliseconds.',
    example: 30000,
  })
  timeout_ms?: number;
}
