import { ApiProblems } from '#libs/errors/api-problems.js';
import { Controller, HttpCode, Param, Post, Req, Res } from '@nestjs/common';
import { ApiBody, ApiOkResponse, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { Needs } from '../auth/auth.guard.js';
import { ExecuteRequestDto, ExecuteResponseDto } from './dto.js';
import { ExecutionHttp } from './execution.http.js';

const TIMING_HEADERS = {
  'Server-Timing': {
    description: 'Milliseconds: waiting for a slot, in the worker, and altogether.',
    schema: { type: 'string', example: 'queue;dur=0.01, worker;dur=1.52, total;dur=1.74' },
  },
  'X-Cold-Start': {
    description: 'Whether the call found no replica of its function and waited for one.',
    schema: { type: 'string', enum: ['true', 'false'] },
  },
};

@ApiTags('execution')
@Needs('invoke')
@Controller('functions')
export class ExecutionController {
  constructor(private readonly http: ExecutionHttp) {}

  @Post(':id/execute')
  @HttpCode(200)
  @ApiOperation({
    operationId: 'executeFunction',
    summary: 'Run a function with a payload',
    description:
      'The body is read as JSON whatever its Content-Type. A call waits while no replica has a free slot. Disconnecting cancels it. Problems carry `Server-Timing` and `X-Cold-Start` too, but for 401 and 403.',
  })
  @ApiParam({ name: 'id', description: "The function's id.", example: 'mfrggzdfmztwq2lk' })
  @ApiBody({ type: ExecuteRequestDto })
  @ApiOkResponse({ type: ExecuteResponseDto, headers: TIMING_HEADERS })
  @ApiProblems(
    {
      status: 400,
      code: 'invalid_payload',
      detail: 'The member "payload" is missing. Send {"payload": "<string>"} as JSON.',
      extras: { field: 'payload' },
    },
    { status: 404, code: 'function_not_found', detail: 'Function "mfrggzdfmztwq2lk" does not exist.' },
    {
      status: 409,
      code: 'function_not_runnable',
      detail: "Function mfrggzdfmztwq2lk can't run now: its status is deleting (it is being removed).",
      extras: { function_status: 'deleting' },
    },
    {
      status: 413,
      code: 'payload_too_large',
      detail: 'The payload is larger than the limit of 6291456 bytes.',
      extras: { field: 'payload', limit_bytes: 6291456 },
    },
    {
      status: 415,
      code: 'unsupported_encoding',
      detail: 'Content-Encoding gzip is not supported: send the body uncompressed.',
    },
    {
      status: 429,
      code: 'function_overloaded',
      detail: 'Function mfrggzdfmztwq2lk has all its slots taken and 256 calls waiting. Try again shortly.',
    },
    {
      status: 429,
      code: 'manager_overloaded',
      detail:
        'This manager holds as many requests as its memory allows (536870912 bytes). Try again, or add managers or raise MAX_HELD_BYTES.',
      extras: { limit_bytes: 536870912 },
    },
    {
      status: 500,
      code: 'handler_error',
      detail: 'ValueError: no name given',
      extras: {
        python_type: 'ValueError',
        python_message: 'no name given',
        traceback:
          'Traceback (most recent call last):\n  File "handler.py", line 4, in handle\nValueError: no name given\n',
      },
    },
    { status: 500, code: 'handler_result_invalid', detail: 'The result is not JSON: set is not JSON serialisable.' },
    {
      status: 502,
      code: 'worker_crashed',
      detail: 'The worker ended while it ran the call: it reached its memory limit.',
      extras: { reason: 'out_of_memory' },
    },
    {
      status: 503,
      code: 'function_not_ready',
      detail: 'Function mfrggzdfmztwq2lk did not become ready: no replica answered in time.',
    },
    {
      status: 504,
      code: 'handler_timeout',
      detail: 'The handler ran past its time limit of 30000 ms.',
      extras: { timeout_ms: 30000 },
    },
  )
  execute(@Param('id') id: string, @Req() request: Request, @Res() response: Response): Promise<void> {
    return this.http.handle(id, request, response);
  }
}
