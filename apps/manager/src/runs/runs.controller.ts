import { ApiProblems } from '#libs/errors/api-problems.js';
import { Controller, Get, HttpCode, Post, Query, Req, Res } from '@nestjs/common';
import { ApiExtraModels, ApiOkResponse, ApiOperation, ApiTags, getSchemaPath } from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { Audit, keyOf } from '../auth/audit.js';
import { Needs } from '../auth/auth.guard.js';
import { JsonRunDto, RunDto } from '../functions/dto/upload.dto.js';
import { InvocationDto } from '../invocations/dto.js';
import { DEFAULT_LIMIT, listFilterOf, queryOf } from '../invocations/invocation-query.js';
import { InPages, linkHeader, linkToNext } from '../http/pages.js';
import { QueryParameter } from '../http/query.js';
import { CALL_STATUSES } from '../history/call.js';
import { LogRecordDto } from '../logs/dto/log-record.dto.js';
import { RunsService } from './runs.service.js';

const RUN = {
  required: true,
  content: {
    'multipart/form-data': { schema: { $ref: getSchemaPath(RunDto) } },
    'application/json': {
      schema: { $ref: getSchemaPath(JsonRunDto) },
      example: { function_name: 'handle', code: 'def handle(payload: str):\n    return payload\n', payload: 'Ada' },
    },
  },
};

const TIME = { type: 'string' as const, format: 'date-time' };

@ApiTags('runs')
@Needs('deploy')
@Controller('runs')
export class RunsController {
  constructor(
    private readonly runs: RunsService,
    private readonly audit: Audit,
  ) {}

  @Post()
  @HttpCode(200)
  @ApiOperation({
    operationId: 'run',
    summary: 'Run a Python file once',
    description:
      'Calls it by a worker of its own that nothing else has used and nothing else will, and answers with its result and what it printed. Nothing of it is kept.',
    requestBody: RUN,
  })
  @ApiExtraModels(RunDto, JsonRunDto, LogRecordDto)
  @ApiOkResponse({ schema: { $ref: '#/components/schemas/RunResult' }, description: 'What came of it.' })
  @ApiProblems(
    'invalid_upload',
    'secret_unreadable',
    'function_removed',
    'upload_too_large',
    'unsupported_encoding',
    'handler_not_loadable',
    'handler_error',
    'handler_result_invalid',
    'handler_timeout',
    'handler_response_invalid',
    'worker_crashed',
    'function_overloaded',
    'manager_overloaded',
    'function_not_ready',
    'function_not_found',
    'orchestrator_unavailable',
    'requirements_not_installable',
    'requirements_unsupported',
    'build_unavailable',
  )
  async run(@Req() request: Request, @Res() response: Response): Promise<void> {
    const pieces = await this.audit.of('run', request, () => this.runs.run(request, response, keyOf(request)));
    const bytes = pieces.reduce((sum, { length }) => sum + length, 0);
    response.type('application/json').setHeader('Content-Length', bytes);
    response.cork();
    for (const piece of pieces) response.write(piece);
    response.end();
  }

  @Get()
  @ApiOperation({
    operationId: 'listRuns',
    summary: 'What was run once, the newest first',
    description:
      'As the history has it: when, for whom, how long, and how it ended. In pages: the `Link` header leads to the next one.',
  })
  @QueryParameter({
    name: 'status',
    required: false,
    description: 'Those of this status.',
    schema: { type: 'string', enum: [...CALL_STATUSES] },
  })
  @QueryParameter({
    name: 'since',
    required: false,
    description: 'Those that began at this moment or later.',
    schema: TIME,
  })
  @QueryParameter({ name: 'until', required: false, description: 'Those that began before it.', schema: TIME })
  @InPages({ byDefault: DEFAULT_LIMIT, after: { maxLength: 36 } })
  @ApiOkResponse({
    type: [InvocationDto],
    description: 'The runs; an empty array where there are none.',
    headers: linkHeader('</runs?limit=50&after=019356b4-1c30-7b2e-9f4c-5d2f4a6e8b10>; rel="next"'),
  })
  @ApiProblems('invalid_page')
  async list(
    @Query() query: Record<string, unknown>,
    @Res({ passthrough: true }) response: Response,
  ): Promise<InvocationDto[]> {
    const filter = listFilterOf(query);
    const { shown, next } = await this.runs.list(filter);
    if (next !== undefined) response.setHeader('Link', linkToNext('/runs', filter.limit, next, queryOf(filter)));
    return shown;
  }
}
