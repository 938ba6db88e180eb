import { ApiProblems } from '#libs/errors/api-problems.js';
import { Controller, HttpCode, Post, Req, Res } from '@nestjs/common';
import { ApiExtraModels, ApiOkResponse, ApiOperation, ApiTags, getSchemaPath } from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { Audit, keyOf } from '../auth/audit.js';
import { Needs } from '../auth/auth.guard.js';
import { JsonRunDto, RunDto } from '../functions/dto/upload.dto.js';
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
    const body = await this.audit.of('run', request, () => this.runs.run(request, response, keyOf(request)));
    response.type('application/json').send(body);
  }
}
