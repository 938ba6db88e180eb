import { ApiAccessProblems } from '#libs/errors/api-problems.js';
import { Metrics } from '#libs/observability/metrics.js';
import { Controller, Get, Header, Res } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Response } from 'express';
import { Needs } from '../auth/auth.guard.js';
import { Scrape } from './scrape.js';

const EXAMPLE = `# HELP faas_calls_total Calls by function and by code: ok, or the code of the problem they were answered with.
# TYPE faas_calls_total counter
faas_calls_total{function="mfrggzdfmztwq2lk",code="ok"} 42
`;

@ApiTags('metrics')
@Controller()
export class ScrapeController {
  constructor(
    private readonly metrics: Metrics,
    private readonly scrape: Scrape,
  ) {}

  @Get('metrics')
  @Needs('metrics')
  @Header('Cache-Control', 'no-store')
  @ApiOperation({
    operationId: 'readMetrics',
    summary: "What this manager counts and measures, in Prometheus's text format",
    description: 'With `METRICS_PUBLIC=true` no key is asked for.',
  })
  @ApiOkResponse({
    description: 'The numbers.',
    content: { 'text/plain': { schema: { type: 'string' }, example: EXAMPLE } },
  })
  @ApiAccessProblems()
  async read(@Res() response: Response): Promise<void> {
    response.type(this.metrics.contentType).send(await this.scrape.text());
  }
}
