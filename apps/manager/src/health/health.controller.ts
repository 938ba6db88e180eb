import { ApiAccessProblems } from '#libs/errors/api-problems.js';
import { Controller, Get, Header, Res, ServiceUnavailableException } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiServiceUnavailableResponse, ApiTags } from '@nestjs/swagger';
import { HealthCheck, HealthCheckService } from '@nestjs/terminus';
import type { Response } from 'express';
import { Open } from '../access/access.guard.js';
import { HealthDto } from './dto.js';
import { Indicators } from './indicators.js';

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
  @ApiOperation({ operationId: 'livez', summary: 'The process answers', security: [] })
  @ApiOkResponse({ type: HealthDto })
  live(): HealthDto {
    return { status: 'ok', info: {}, error: {}, details: {} };
  }

  @Get('readyz')
  @Open()
  @HealthCheck({ swaggerDocumentation: false, noCache: true })
  @ApiOperation({
    operationId: 'readyz',
    summary: 'Database and engine answer, and the manager is not leaving',
    security: [],
  })
  @ApiOkResponse({ type: HealthDto })
  @ApiServiceUnavailableResponse({ type: HealthDto, description: 'Send traffic elsewhere.' })
  ready(@Res({ passthrough: true }) response: Response): Promise<HealthDto> {
    return this.all(response);
  }

  @Get('healthz')
  @HealthCheck({ swaggerDocumentation: false, noCache: true })
  @ApiOperation({ operationId: 'healthz', summary: 'What /readyz looks at, in detail' })
  @ApiOkResponse({ type: HealthDto })
  @ApiServiceUnavailableResponse({ type: HealthDto, description: 'Something is down; `error` says what.' })
  @ApiAccessProblems()
  detail(@Res({ passthrough: true }) response: Response): Promise<HealthDto> {
    return this.all(response);
  }

  private async all(response: Response): Promise<HealthDto> {
    const { checkServing, checkDatabase, checkEngine } = this.indicators;
    try {
      return (await this.health.check([checkServing, checkDatabase, checkEngine])) as HealthDto;
    } catch (error) {
      // Terminus reports what is down by throwing; here that is an answer like any other.
      if (!(error instanceof ServiceUnavailableException)) throw error;
      response.status(503);
      return error.getResponse() as HealthDto;
    }
  }
}
