import { ApiProperty } from '@nestjs/swagger';

/** An RFC 9457 problem document as every failure answers it; some codes add members of their own. */
export class ProblemDto {
  @ApiProperty({ example: 'urn:service-faas:problem:function_not_found' })
  type: string;

  @ApiProperty({ example: 'Function not found' })
  title: string;

  @ApiProperty({ type: 'integer', example: 404 })
  status: number;

  @ApiProperty({
    description: 'What is wrong and what to do, in one sentence.',
    example: 'Function "mfrggzdfmztwq2lk" does not exist.',
  })
  detail: string;

  @ApiProperty({
    description: 'The same sentence as `detail`.',
    example: 'Function "mfrggzdfmztwq2lk" does not exist.',
  })
  error: string;

  @ApiProperty({ description: 'A stable word for programs.', example: 'function_not_found' })
  code: string;

  @ApiProperty({ description: 'Also in the X-Request-Id header.', example: '6f9619ff-8b86-4011-b42d-00cf4fc964ff' })
  request_id: string;

  @ApiProperty({ description: 'invalid_upload: the form field at fault.', required: false, example: 'function_name' })
  field?: string;

  @ApiProperty({
    description: 'handler_error, handler_not_loadable: the Python traceback.',
    required: false,
    type: String,
    nullable: true,
  })
  traceback?: string | null;

  @ApiProperty({
    description: 'handler_not_loadable: the line of the file.',
    required: false,
    type: 'integer',
    nullable: true,
  })
  line?: number | null;

  @ApiProperty({ description: 'handler_error: the Python exception.', required: false, example: 'ValueError' })
  python_type?: string;
}
