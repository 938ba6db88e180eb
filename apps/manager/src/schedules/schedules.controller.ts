import { DNS_LABEL, isDnsLabel } from '#libs/names/dns-label.js';
import { ApiProblems } from '#libs/errors/api-problems.js';
import { Controller, Delete, Get, HttpCode, Param, Put, Query, Req, Res } from '@nestjs/common';
import {
  ApiBody,
  ApiCreatedResponse,
  ApiHeader,
  type ApiHeaderOptions,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  type ApiParamOptions,
  ApiTags,
} from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { Audit, keyOf, requireAdmin } from '../auth/audit.js';
import { Needs } from '../auth/auth.guard.js';
import { FUNCTION_ID } from '../functions/dto/function.dto.js';
import { readJsonObject } from '../functions/update.js';
import { tagVersion, versionsOf } from '../http/entity-tag.js';
import { afterOf, InPages, limitOf, linkHeader, linkToNext } from '../http/pages.js';
import { MemoryBudget } from '../memory/memory-budget.js';
import { ScheduleDto, SetScheduleDto } from './dto.js';
import { MOST_PAYLOAD_BYTES } from './schedule-request.js';
import { SchedulesService } from './schedules.service.js';

/** The times of each are worked out. */
const MOST_PER_PAGE = 100;

const NAME: ApiParamOptions = {
  name: 'name',
  description: "The schedule's name among those of its function: a DNS label.",
  schema: { type: 'string', pattern: DNS_LABEL.source, example: 'nightly' },
};

const ETAG = {
  ETag: {
    description: 'The version of what users say of the schedule: for `If-Match`.',
    schema: { type: 'string' as const, example: '"1"' },
  },
};

const IF_MATCH: ApiHeaderOptions = {
  name: 'If-Match',
  required: false,
  description: 'The ETag of the version to change. With another one nothing happens.',
  schema: { type: 'string' },
};

const EXAMPLES = {
  calendar: {
    summary: 'At three in the morning, in Berlin',
    value: { cron: '0 3 * * *', timezone: 'Europe/Berlin', payload: '{"job": "report"}', pause_after_failures: 5 },
  },
  interval: {
    summary: 'Every ten seconds, one call after the other',
    value: { interval_ms: 10_000, overlap: 'queue', catch_up_ms: 0 },
  },
};

@ApiTags('schedules')
@Needs('deploy')
@Controller('functions/:id/schedules')
export class SchedulesController {
  constructor(
    private readonly schedules: SchedulesService,
    private readonly audit: Audit,
    private readonly memory: MemoryBudget,
  ) {}

  @Get()
  @ApiOperation({
    operationId: 'listSchedules',
    summary: 'The schedules of a function, by name',
    description:
      'Without their last runs, which each has for itself. In pages: the `Link` header leads to the next one.',
  })
  @ApiParam(FUNCTION_ID)
  @InPages({ most: MOST_PER_PAGE, byDefault: MOST_PER_PAGE, after: { maxLength: 63 } })
  @ApiOkResponse({
    type: [ScheduleDto],
    description: 'The schedules; an empty array where there are none.',
    headers: linkHeader('</functions/report/schedules?limit=100&after=nightly>; rel="next"'),
  })
  @ApiProblems('invalid_page', 'function_not_found', 'route_not_found')
  async list(
    @Param('id') reference: string,
    @Query() query: Record<string, unknown>,
    @Res({ passthrough: true }) response: Response,
  ): Promise<ScheduleDto[]> {
    const limit = limitOf(query['limit'], MOST_PER_PAGE) ?? MOST_PER_PAGE;
    const { rows, isLast } = await this.schedules.list(reference, afterOf(query['after'], isDnsLabel) ?? '', limit);
    const last = rows.at(-1)?.name;
    if (!isLast && last !== undefined) {
      const path = `/functions/${encodeURIComponent(reference)}/schedules`;
      response.setHeader('Link', linkToNext(path, limit, last));
    }
    return rows.map((row) => ScheduleDto.of(row));
  }

  @Get(':name')
  @ApiOperation({
    operationId: 'getSchedule',
    summary: 'One schedule',
    description: 'With its next times and its last runs.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiParam(NAME)
  @ApiOkResponse({ type: ScheduleDto, description: 'The schedule.', headers: ETAG })
  @ApiProblems('function_not_found', 'schedule_not_found', 'route_not_found')
  async get(
    @Param('id') reference: string,
    @Param('name') name: string,
    @Req() request: Request,
    @Res({ passthrough: true }) response: Response,
  ): Promise<ScheduleDto> {
    const { row, runs } = await this.schedules.find(reference, name);
    tagVersion(request, response, row.version);
    return ScheduleDto.of(row, runs);
  }

  @Put(':name')
  @HttpCode(200)
  @ApiOperation({
    operationId: 'putSchedule',
    summary: 'Make a schedule, or change it',
    description:
      'What is left out is as in a new one. The same again changes nothing, except that a schedule that is paused goes on. Each of its times makes one call for later. `callback_url`, which is sent results, needs a key of scope `admin`.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiParam(NAME)
  @ApiHeader(IF_MATCH)
  @ApiBody({ type: SetScheduleDto, examples: EXAMPLES })
  @ApiOkResponse({ type: ScheduleDto, description: 'It is so now.', headers: ETAG })
  @ApiCreatedResponse({
    type: ScheduleDto,
    description: 'It is new.',
    headers: {
      Location: { description: "The schedule's path.", schema: { type: 'string', format: 'uri-reference' } },
      ...ETAG,
    },
  })
  @ApiProblems(
    'invalid_schedule',
    'invalid_update',
    'function_not_found',
    'route_not_found',
    'too_many_schedules',
    'version_outdated',
    'payload_too_large',
    'unsupported_encoding',
    'manager_overloaded',
  )
  async put(
    @Param('id') reference: string,
    @Param('name') name: string,
    @Req() request: Request,
    @Res({ passthrough: true }) response: Response,
  ): Promise<ScheduleDto> {
    const reservation = this.memory.reserveUntilClosed(response);
    const body = await readJsonObject(request, reservation, '{"cron": "@daily"}', MOST_PAYLOAD_BYTES);
    const mustExist = request.headers['if-match'] !== undefined;
    const asked = { versions: versionsOf(request), mustExist, by: keyOf(request) };
    const put = await this.audit.of(
      'put schedule',
      request,
      (named) => {
        // Results go to nobody who may not call.
        if (typeof body['callback_url'] === 'string') requireAdmin(request);
        return this.schedules.put(reference, name, body, { ...asked, named });
      },
      { schedule: name.slice(0, 64) },
    );
    if (put.outcome === 'made') response.status(201).location(`/functions/${put.row.functionId}/schedules/${name}`);
    tagVersion(request, response, put.row.version);
    return ScheduleDto.of(put.row, put.runs);
  }

  @Delete(':name')
  @HttpCode(204)
  @ApiOperation({
    operationId: 'removeSchedule',
    summary: 'Remove a schedule',
    description: 'Calls that it has made stay, and run.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiParam(NAME)
  @ApiHeader(IF_MATCH)
  @ApiNoContentResponse({ description: 'It is gone.' })
  @ApiProblems('function_not_found', 'schedule_not_found', 'route_not_found', 'version_outdated')
  remove(@Param('id') reference: string, @Param('name') name: string, @Req() request: Request): Promise<void> {
    return this.audit.of(
      'remove schedule',
      request,
      (named) => this.schedules.remove(reference, name, { versions: versionsOf(request), named }),
      { schedule: name.slice(0, 64) },
    );
  }
}
