import { ApiProblems } from '#libs/errors/api-problems.js';
import { Controller, Get, Param, Query, Req, Res } from '@nestjs/common';
import { ApiHeader, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { Needs } from '../auth/auth.guard.js';
import { FUNCTION_ID } from '../functions/dto/function.dto.js';
import { QueryParameter } from '../http/query.js';
import { SOURCES } from './dto/log-record.dto.js';
import { ApiLogRecords } from './dto/records-answer.js';
import { DEFAULT_TAIL, MOST_TAIL } from './log-query.js';
import { LogsService } from './logs.service.js';

@ApiTags('functions')
@Needs('deploy')
@Controller('functions')
export class LogsController {
  constructor(private readonly service: LogsService) {}

  @Get(':id/logs')
  @ApiOperation({
    operationId: 'getFunctionLogs',
    summary: 'What a function and its workers have printed',
    description:
      'The newest lines of all replicas, the oldest first, and with `follow` new ones as they come, until the function is removed. What a replica that is gone has said last stays readable for a week. One `LogRecordDto` for each line; a `MissedLinesDto` stands in place of lines that came faster than they were read.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiHeader({
    name: 'Last-Event-ID',
    description: 'Of server-sent events: the id of the last one that was read. What came after it follows.',
    schema: { type: 'string' },
  })
  @QueryParameter({
    name: 'tail',
    required: false,
    description: 'At most so many of the newest lines to begin with.',
    schema: { type: 'integer', minimum: 0, maximum: MOST_TAIL, default: DEFAULT_TAIL },
  })
  @QueryParameter({
    name: 'since',
    required: false,
    description: 'None that was written before this time (RFC 3339).',
    schema: { type: 'string', format: 'date-time' },
  })
  @QueryParameter({
    name: 'follow',
    required: false,
    description: 'Goes on with new lines. Server-sent events do so unless this is `false`.',
    schema: { type: 'boolean' },
  })
  @QueryParameter({
    name: 'revision',
    required: false,
    description: 'Lines of replicas that serve this revision.',
    schema: { type: 'integer', minimum: 1, maximum: 2_147_483_647 },
  })
  @QueryParameter({
    name: 'replica',
    required: false,
    description: 'Lines of this replica.',
    schema: { type: 'string', maxLength: 128 },
  })
  @QueryParameter({
    name: 'request_id',
    required: false,
    description: 'Lines that this call has printed; sought in the newest 10,000 of each replica.',
    schema: { type: 'string', maxLength: 64 },
  })
  @QueryParameter({
    name: 'source',
    required: false,
    description: "Only the handler's lines, or only the worker's own notes.",
    schema: { type: 'string', enum: [...SOURCES] },
  })
  @ApiLogRecords()
  @ApiProblems(
    'function_not_found',
    'route_not_found',
    'too_many_followers',
    'manager_overloaded',
    'orchestrator_unavailable',
  )
  async logs(
    @Param('id') id: string,
    @Query() query: Record<string, unknown>,
    @Req() request: Request,
    @Res() response: Response,
  ): Promise<void> {
    await this.service.answer(id, query, request, response);
  }
}
