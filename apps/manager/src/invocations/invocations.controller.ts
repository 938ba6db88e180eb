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
import { Audit } from '../auth/audit.js';
import { Needs } from '../auth/auth.guard.js';
import { ChoosesRevision } from '../traffic/chooses-revision.js';
import { FUNCTION_ID } from '../functions/dto/function.dto.js';
import { readSmallJson } from '../functions/update.js';
import { QueryParameter } from '../http/query.js';
import { InvocationDto, invocationJson, InvokeLaterDto, RedriveDto, RedrivenDto } from './dto.js';
import { STATUSES } from './invocation.js';
import { DEFAULT_LIMIT, linkToNext, listFilterOf, MOST_PER_PAGE, redriveIn } from './invocation-query.js';
import { InvocationsHttp } from './invocations.http.js';
import { InvocationsService } from './invocations.service.js';

const INVOCATION_ID: ApiParamOptions = {
  name: 'id',
  description: "The invocation's id.",
  schema: { type: 'string', maxLength: 36, example: '019356b4-1c30-7b2e-9f4c-5d2f4a6e8b10' },
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
  @ApiHeader({
    name: 'Idempotency-Key',
    required: false,
    description:
      'Of requests to one function with the same key only the first one counts: the others are answered with its invocation, or with 409 where they ask for something else.',
    schema: { type: 'string', minLength: 1, maxLength: 255 },
  })
  @ApiBody({ type: InvokeLaterDto, examples: EXAMPLES })
  @ApiAcceptedResponse({
    type: InvocationDto,
    description: 'It is kept, and will run.',
    headers: {
      Location: { description: "The invocation's path.", schema: { type: 'string', format: 'uri-reference' } },
      'Idempotency-Replayed': {
        description: '`true` where the request came before: this is what became of it.',
        schema: { type: 'string', enum: ['true'] },
      },
    },
  })
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
    summary: 'Calls for later of a function, the newest first',
    description: 'In pages: the `Link` header leads to the next one. Without results, which each has for itself.',
  })
  @ApiParam(FUNCTION_ID)
  @QueryParameter({
    name: 'status',
    required: false,
    description: 'Those of this status. Dead letters are `dead`.',
    schema: { type: 'string', enum: [...STATUSES] },
  })
  @QueryParameter({
    name: 'since',
    required: false,
    description: 'Those that came at this moment or later.',
    schema: TIME,
  })
  @QueryParameter({ name: 'until', required: false, description: 'Those that came before it.', schema: TIME })
  @QueryParameter({
    name: 'limit',
    required: false,
    description: 'At most so many of them.',
    schema: { type: 'integer', minimum: 1, maximum: MOST_PER_PAGE, default: DEFAULT_LIMIT },
  })
  @QueryParameter({
    name: 'after',
    required: false,
    description: 'Where the page begins: taken from the Link header of the page before.',
    schema: { type: 'string', maxLength: 36 },
  })
  @ApiOkResponse({
    type: [InvocationDto],
    description: 'The calls; an empty array where there are none.',
    headers: {
      Link: {
        description: 'Where more follow: the next page (RFC 8288).',
        schema: {
          type: 'string',
          example: '</functions/greet/invocations?limit=50&after=019356b4-1c30-7b2e-9f4c-5d2f4a6e8b10>; rel="next"',
        },
      },
    },
  })
  @ApiProblems('invalid_page', 'function_not_found', 'route_not_found')
  async list(
    @Param('id') reference: string,
    @Query() query: Record<string, unknown>,
    @Res({ passthrough: true }) response: Response,
  ): Promise<InvocationDto[]> {
    const filter = listFilterOf(query);
    const found = await this.invocations.list(reference, filter);
    const last = found.at(-1);
    if (last !== undefined && found.length === filter.limit) {
      response.setHeader('Link', linkToNext(reference, filter, last.id));
    }
    return found.map((one) => InvocationDto.of(one));
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
    summary: 'What became of a call for later',
    description: 'With its `result` once it has succeeded, where that is kept.',
  })
  @ApiParam(INVOCATION_ID)
  @ApiOkResponse({ type: InvocationDto, description: 'The call.' })
  @ApiProblems('invocation_not_found', 'route_not_found', 'manager_overloaded')
  async get(@Param('id') id: string, @Res() response: Response): Promise<void> {
    const { invocation, result } = await this.invocations.detail(id, response);
    response.status(200).setHeader('Content-Type', 'application/json');
    response.end(invocationJson(invocation, result));
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
