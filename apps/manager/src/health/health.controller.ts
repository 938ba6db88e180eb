import { ApiAccessProblems, ApiOpenProblems } from '#libs/errors/api-problems.js';
import { InvalidRequest } from '#libs/errors/errors.js';
import { Controller, Get, Header, Query, Res, ServiceUnavailableException } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiServiceUnavailableResponse, ApiTags } from '@nestjs/swagger';
import { HealthCheck, HealthCheckService } from '@nestjs/terminus';
import type { Response } from 'express';
import { Open } from '../auth/auth.guard.js';
import { QueryParameter } from '../http/query.js';
import { HealthDto } from './dto.js';
import { Indicators, type Shared, SHARED } from './indicators.js';

@ApiTags('health')
@Controller()
export class HealthController {
  constructor(
    private readonly health: HealthCheckService,
    private readonly indicators: Indicators,
  ) {}

  @Get('livez')
  @Open()
  @Header('Cache-Control', 'no-store')
  @ApiOperation({
    operationId: 'livez',
    summary: 'The process answers',
    description: 'For liveness probes: it looks at nothing else, so that an outage restarts no manager.',
    security: [],
  })
  @ApiOkResponse({ type: HealthDto, description: 'It does.' })
  @ApiOpenProblems()
  live(): HealthDto {
    return { status: 'ok', info: {}, error: {}, details: {} };
  }

  @Get('readyz')
  @Open()
  @HealthCheck({ swaggerDocumentation: false, noCache: true })
  @ApiOperation({
    operationId: 'readyz',
    summary: 'Database and engine answer, and the manager is not leaving',
    description: 'For readiness probes and load balancers.',
    security: [],
  })
  @QueryParameter({
    name: 'exclude',
    required: false,
    enum: SHARED,
    isArray: true,
    description:
      'What not to look at. For load balancers over several managers: all of them lose what they share at once, and calls of known functions go on without it.',
  })
  @ApiOkResponse({ type: HealthDto, description: 'Everything that was looked at is up.' })
  @ApiServiceUnavailableResponse({ type: HealthDto, description: 'Send traffic elsewhere.' })
  @ApiOpenProblems()
  ready(
    @Res({ passthrough: true }) response: Response,
    @Query('exclude') exclude?: string | string[],
  ): Promise<HealthDto> {
    return this.answer(response, excluded(exclude));
  }

  @Get('healthz')
  @HealthCheck({ swaggerDocumentation: false, noCache: true })
  @ApiOperation({
    operationId: 'healthz',
    summary: 'What /readyz looks at, in detail',
    description: 'For people and monitoring, with a key of scope admin.',
  })
  @ApiOkResponse({ type: HealthDto, description: 'Everything that was looked at is up.' })
  @ApiServiceUnavailableResponse({ type: HealthDto, description: 'Something is down; `error` says what.' })
  @ApiAccessProblems()
  detail(@Res({ passthrough: true }) response: Response): Promise<HealthDto> {
    return this.answer(response);
  }

  private async answer(response: Response, exclude: readonly Shared[] = []): Promise<HealthDto> {
    try {
      return (await this.health.check(this.indicators.without(exclude))) as HealthDto;
    } catch (error) {
      // Terminus reports what is down by throwing; here that is an answer like any other.
      if (!(error instanceof ServiceUnavailableException)) throw error;
      response.status(503);
      return error.getResponse() as HealthDto;
    }
  }
}

function excluded(given: string | string[] = []): Shared[] {
  const isShared = (name: string): name is Shared => (SHARED as readonly string[]).includes(name);
  return [given].flat().map((name) => {
    if (isShared(name)) return name;
    const shown = JSON.stringify(name.slice(0, 64));
    throw new InvalidRequest(`exclude can't be ${shown}. Known: ${SHARED.join(', ')}.`, 'exclude');
  });
}
