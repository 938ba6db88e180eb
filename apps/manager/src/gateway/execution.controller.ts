import { ApiProblems } from '#libs/errors/api-problems.js';
import { Controller, HttpCode, Param, Post, Req, Res } from '@nestjs/common';
import { ApiBody, ApiHeader, ApiOkResponse, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { Needs } from '../auth/auth.guard.js';
import { FUNCTION_ID } from '../functions/dto/function.dto.js';
import { ChoosesRevision } from '../traffic/chooses-revision.js';
import { ExecuteRequestDto, KEY_OF_KEPT, PREFER, TIMING_HEADERS } from './dto.js';
import { ExecutionHttp } from './execution.http.js';

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
  @ApiParam(FUNCTION_ID)
  @ChoosesRevision('answer')
  @ApiHeader(PREFER)
  @ApiHeader(KEY_OF_KEPT)
  @ApiBody({ type: ExecuteRequestDto })
  @ApiOkResponse({
    description: "The handler's return value.",
    headers: TIMING_HEADERS,
    content: {
      'application/json': { schema: { $ref: '#/components/schemas/ExecuteResponse' } },
    },
  })
  @ApiProblems(
    'invalid_payload',
    'invalid_invocation',
    'invalid_event',
    'route_not_found',
    'function_not_found',
    'function_not_runnable',
    'function_disabled',
    'revision_without_traffic',
    'idempotency_key_reused',
    'payload_too_large',
    'unsupported_encoding',
    'queue_full',
    'function_overloaded',
    'manager_overloaded',
    'handler_error',
    'handler_result_invalid',
    'handler_response_invalid',
    'worker_crashed',
    'function_not_ready',
    'orchestrator_unavailable',
    'handler_timeout',
  )
  execute(@Param('id') id: string, @Req() request: Request, @Res() response: Response): Promise<void> {
    return this.http.handle(id, request, response);
  }
}
