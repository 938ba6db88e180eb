import { ApiProblems } from '#libs/errors/api-problems.js';
import { Controller, Delete, Get, HttpCode, Param, Post, Query, Req, Res } from '@nestjs/common';
import {
  ApiAcceptedResponse,
  ApiBody,
  ApiHeader,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  type ApiParamOptions,
  ApiTags,
} from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { requestIdOf } from '#libs/errors/request-id.js';
import { Audit, keyOf } from '../auth/audit.js';
import { Needs } from '../auth/auth.guard.js';
import { ChoosesRevision } from '../traffic/chooses-revision.js';
import { FUNCTION_ID } from '../functions/dto/function.dto.js';
import { readSmallJson } from '../functions/update.js';
import { InPages, linkHeader, linkToNext } from '../http/pages.js';
import { QueryParameter } from '../http/query.js';
import { InvocationDto, InvokeLaterDto, RedriveDto, RedrivenDto, ReplayDto } from './dto.js';
import { CALL_KINDS } from '../gateway/call-ends.js';
import { IDEMPOTENCY_KEY } from '../gateway/dto.js';
import { MOST_TAIL } from '../logs/log-query.js';
import { LogsService } from '../logs/logs.service.js';
import { ApiLogRecords } from '../logs/dto/records-answer.js';
import { ALL_STATUSES, DEFAULT_LIMIT, queryOf, listFilterOf, redriveIn, replayIn } from './invocation-query.js';
import { keyIn } from './invocation-request.js';
import { InvocationsHttp } from './invocations.http.js';
import { InvocationsService } from './invocations.service.js';

const INVOCATION_ID: ApiParamOptions = {
  name: 'id',
  description: "The invocation's id.",
  schema: { type: 'string', maxLength: 36, example: '019356b4-1c30-7b2e-9f4c-5d2f4a6e8b10' },
};

/** Of answers to what is kept. */
const KEPT = {
  Location: { description: "The invocation's path.", schema: { type: 'string' as const, format: 'uri-reference' } },
  'Idempotency-Replayed': {
    description: '`true` where the request came before: this is what became of it.',
    schema: { type: 'string' as const, enum: ['true'] },
  },
};

const EXAMPLES = {
  simple: { summary: 'As soon as there is a slot for it', value: { payload: '{"name": "Ada"}' } },
  delayed: {
    summary: 'In a minute, five times at most, and not again after a time-out',
    value: { payload: '{"name": "Ada"}', delay_ms: 60_000, max_attempts: 5, retry_on: ['error', 'crash'] },
  },
};

const TIME = { type: 'string' as const, format: 'date-time' };

@ApiTags('invocations')
@Needs('invoke')
@Controller()
export class InvocationsController {
  constructor(
    private readonly invocations: InvocationsService,
    private readonly http: InvocationsHttp,
    private readonly logs: LogsService,
    private readonly audit: Audit,
  ) {}

  @Post('functions/:id/invocations')
  @HttpCode(202)
  @ApiOperation({
    operationId: 'invokeLater',
    summary: 'Call a function later',
    description:
      'Answers once the call is committed to the database. From then on it runs at least once, whatever is killed; its result, or why it has failed for good, can be read for a week. `Prefer: respond-async` on `execute` does the same, and on `/f/…` keeps an HTTP call. An event (CloudEvents 1.0, its attributes as headers `ce-…`, or `application/cloudevents+json`) is handed to the function as an HTTP call of its root.',
  })
  @ApiParam(FUNCTION_ID)
  @ChoosesRevision('run it')
  @ApiHeader(IDEMPOTENCY_KEY)
  @ApiBody({ type: InvokeLaterDto, examples: EXAMPLES })
  @ApiAcceptedResponse({ type: InvocationDto, description: 'It is kept, and will run.', headers: KEPT })
  @ApiProblems(
    'invalid_invocation',
    'invalid_payload',
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
  )
  invoke(@Param('id') reference: string, @Req() request: Request, @Res() response: Response): Promise<void> {
    return this.http.handle(reference, request, response);
  }

  @Get('functions/:id/invocations')
  @Needs('deploy')
  @ApiOperation({
    operationId: 'listInvocations',
    summary: 'Calls of a function, the newest first',
    description:
      'Calls for later, those that wait too, and all others once they have ended. In pages: the `Link` header leads to the next one. A page with a filter may have fewer calls than `limit`, or none, and be followed by another one all the same. Without results, which each has for itself.',
  })
  @ApiParam(FUNCTION_ID)
  @QueryParameter({
    name: 'status',
    required: false,
    description: 'Those of this status. Dead letters are `dead`.',
    schema: { type: 'string', enum: ALL_STATUSES },
  })
  @QueryParameter({
    name: 'kind',
    required: false,
    description: 'Those that came in so.',
    schema: { type: 'string', enum: [...CALL_KINDS] },
  })
  @QueryParameter({
    name: 'revision',
    required: false,
    description: 'Those that this revision ran, or would have run.',
    schema: { type: 'integer', minimum: 1, maximum: 999_999_999 },
  })
  @QueryParameter({
    name: 'code',
    required: false,
    description: 'Those whose `error` has this code.',
    schema: { type: 'string', maxLength: 64 },
  })
  @QueryParameter({
    name: 'since',
    required: false,
    description: 'Those that came at this moment or later.',
    schema: TIME,
  })
  @QueryParameter({ name: 'until', required: false, description: 'Those that came before it.', schema: TIME })
  @InPages({ byDefault: DEFAULT_LIMIT, after: { maxLength: 36 } })
  @ApiOkResponse({
    type: [InvocationDto],
    description: 'The calls; an empty array where there are none.',
    headers: linkHeader(
      '</functions/greet/invocations?limit=50&after=019356b4-1c30-7b2e-9f4c-5d2f4a6e8b10>; rel="next"',
    ),
  })
  @ApiProblems('invalid_page', 'function_not_found', 'route_not_found')
  async list(
    @Param('id') reference: string,
    @Query() query: Record<string, unknown>,
    @Res({ passthrough: true }) response: Response,
  ): Promise<InvocationDto[]> {
    const filter = listFilterOf(query);
    const { shown, next } = await this.invocations.list(reference, filter);
    if (next !== undefined) {
      const path = `/functions/${encodeURIComponent(reference)}/invocations`;
      response.setHeader('Link', linkToNext(path, filter.limit, next, queryOf(filter)));
    }
    return shown;
  }

  @Post('functions/:id/invocations/redrive')
  @Needs('deploy')
  @HttpCode(200)
  @ApiOperation({
    operationId: 'redriveInvocations',
    summary: 'Let dead calls of a function wait again',
    description: 'With all their attempts. Up to 100,000 at once, as far as the queue has room.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiBody({ type: RedriveDto, examples: { all: { summary: 'All of them', value: {} } } })
  @ApiOkResponse({ type: RedrivenDto, description: 'They wait.' })
  @ApiProblems(
    'invalid_invocation',
    'invalid_update',
    'function_not_found',
    'route_not_found',
    'unsupported_encoding',
    'queue_full',
  )
  async redrive(@Param('id') reference: string, @Req() request: Request): Promise<RedrivenDto> {
    const ids = redriveIn(await readSmallJson(request, '{}'));
    const redriven = await this.audit.of('redrive', request, (named) =>
      this.invocations.redrive(reference, ids, named),
    );
    return { redriven };
  }

  @Get('invocations/:id')
  @ApiOperation({
    operationId: 'getInvocation',
    summary: 'What became of a call',
    description:
      'Of a call for later, whose `result` is there once it has succeeded and where that is kept; or of one at once that has ended, whose answer has named its id (`X-Faas-Invocation`).',
  })
  @ApiParam(INVOCATION_ID)
  @ApiOkResponse({ type: InvocationDto, description: 'The call.' })
  @ApiProblems('invocation_not_found', 'route_not_found', 'manager_overloaded')
  async get(@Param('id') id: string, @Res() response: Response): Promise<void> {
    const body = await this.invocations.detail(id, response);
    response.status(200).setHeader('Content-Type', 'application/json');
    response.end(body);
  }

  @Get('invocations/:id/logs')
  @Needs('deploy')
  @ApiOperation({
    operationId: 'getInvocationLogs',
    summary: 'What a call has printed',
    description:
      'The lines of all its attempts, the oldest first, sought in the newest 10,000 of each replica. Those of a run are in its answer.',
  })
  @ApiParam(INVOCATION_ID)
  @ApiLogRecords()
  @ApiProblems(
    'invocation_not_found',
    'log_not_kept',
    'function_not_found',
    'route_not_found',
    'manager_overloaded',
    'orchestrator_unavailable',
  )
  async log(@Param('id') id: string, @Req() request: Request, @Res() response: Response): Promise<void> {
    const { functionId, requestId } = await this.invocations.printedBy(id);
    const query = { request_id: requestId, tail: String(MOST_TAIL), follow: 'false' };
    await this.logs.answer(functionId, query, request, response);
  }

  @Post('invocations/:id/replay')
  @Needs('deploy')
  @HttpCode(202)
  @ApiOperation({
    operationId: 'replayInvocation',
    summary: 'Make a call once more',
    description:
      'As a new call for later with the same payload: of any call for later, and of a call by `execute` whose payload was kept as it was (`history` of its function).',
  })
  @ApiParam(INVOCATION_ID)
  @ApiHeader(IDEMPOTENCY_KEY)
  @ApiBody({
    type: ReplayDto,
    examples: {
      newest: { summary: 'By the revision that has the calls now', value: {} },
      same: { summary: 'By the revision that ran it', value: { revision: 'same' } },
    },
  })
  @ApiAcceptedResponse({ type: InvocationDto, description: 'The new call is kept, and will run.', headers: KEPT })
  @ApiProblems(
    'invalid_invocation',
    'invalid_update',
    'invocation_not_found',
    'function_not_found',
    'route_not_found',
    'unsupported_encoding',
    'replay_impossible',
    'function_not_runnable',
    'function_disabled',
    'revision_without_traffic',
    'idempotency_key_reused',
    'queue_full',
    'manager_overloaded',
  )
  async replay(
    @Param('id') id: string,
    @Req() request: Request,
    @Res({ passthrough: true }) response: Response,
  ): Promise<InvocationDto> {
    const key = keyIn(request);
    const wanted = replayIn(await readSmallJson(request, '{}'));
    const by = { requestId: requestIdOf(request), createdBy: keyOf(request), key };
    const { invocation, isKnown } = await this.audit.of('replay', request, (named) =>
      this.invocations.replay(id, wanted, response, { ...by, named }),
    );
    if (isKnown) response.setHeader('Idempotency-Replayed', 'true');
    response.setHeader('Location', `/invocations/${invocation.id}`);
    return InvocationDto.of(invocation);
  }

  @Delete('invocations/:id')
  @HttpCode(200)
  @ApiOperation({
    operationId: 'cancelInvocation',
    summary: 'Cancel a call for later',
    description: 'One that runs is broken off, as if its caller had left; it has ended once its status says so.',
  })
  @ApiParam(INVOCATION_ID)
  @ApiOkResponse({ type: InvocationDto, description: 'It is cancelled, and never runs.' })
  @ApiAcceptedResponse({ type: InvocationDto, description: 'It runs, and is being broken off.' })
  @ApiProblems('invocation_not_found', 'route_not_found', 'invocation_ended')
  async cancel(@Param('id') id: string, @Res({ passthrough: true }) response: Response): Promise<InvocationDto> {
    const cancelled = await this.invocations.cancel(id);
    if (cancelled.status === 'running') response.status(202);
    return InvocationDto.of(cancelled);
  }
}
