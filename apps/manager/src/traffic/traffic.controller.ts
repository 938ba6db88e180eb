import { ApiProblems } from '#libs/errors/api-problems.js';
import { Controller, Get, Param, Put, Req, Res } from '@nestjs/common';
import { ApiBody, ApiHeader, ApiOkResponse, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { Audit } from '../auth/audit.js';
import { Needs } from '../auth/auth.guard.js';
import { FUNCTION_ID } from '../functions/dto/function.dto.js';
import { ETAG, IF_MATCH } from '../functions/functions.controller.js';
import { readSmallJson } from '../functions/update.js';
import { tagVersion, versionsOf } from '../http/entity-tag.js';
import { SetTrafficDto, TrafficDto } from './dto.js';
import { wishIn } from './traffic-body.js';
import { TrafficService } from './traffic.service.js';

const EXAMPLES = {
  canary: {
    summary: 'A tenth for a new revision',
    value: {
      targets: [
        { revision: 3, percent: 90 },
        { revision: 4, percent: 10, tag: 'canary' },
      ],
    },
  },
  auto: { summary: 'All for the newest', value: { mode: 'auto' } },
};

@ApiTags('revisions')
@Needs('deploy')
@Controller('functions/:id/traffic')
export class TrafficController {
  constructor(
    private readonly traffic: TrafficService,
    private readonly audit: Audit,
  ) {}

  @Get()
  @ApiOperation({
    operationId: 'getTraffic',
    summary: 'Which revisions have how many calls',
    description: 'With what was asked for last where that is not served.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiOkResponse({ type: TrafficDto, description: 'The traffic.', headers: ETAG })
  @ApiProblems('function_not_found', 'route_not_found')
  async get(
    @Param('id') id: string,
    @Req() request: Request,
    @Res({ passthrough: true }) response: Response,
  ): Promise<TrafficDto> {
    const { row, traffic } = await this.traffic.find(id);
    tagVersion(request, response, row.version);
    return traffic;
  }

  @Put()
  @ApiOperation({
    operationId: 'setTraffic',
    summary: 'Divide the calls among revisions',
    description:
      'Answers once all workers for it are ready, and the calls are divided so. What fails changes nothing. New revisions get no calls by themselves until the mode is auto again.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiHeader(IF_MATCH)
  @ApiBody({ type: SetTrafficDto, examples: EXAMPLES })
  @ApiOkResponse({ type: TrafficDto, description: 'The traffic, which is served.', headers: ETAG })
  @ApiProblems(
    'invalid_update',
    'function_not_found',
    'route_not_found',
    'revision_not_found',
    'traffic_superseded',
    'function_removed',
    'version_outdated',
    'unsupported_encoding',
    'handler_not_loadable',
    'manager_overloaded',
    'function_not_ready',
    'orchestrator_unavailable',
  )
  async set(
    @Param('id') id: string,
    @Req() request: Request,
    @Res({ passthrough: true }) response: Response,
  ): Promise<TrafficDto> {
    const wish = wishIn(await readSmallJson(request, '{"mode": "auto"}'));
    const { row, traffic } = await this.audit.of('set traffic', request, (named) =>
      this.traffic.set(id, wish, { versions: versionsOf(request), named }),
    );
    tagVersion(request, response, row.version);
    return traffic;
  }
}
