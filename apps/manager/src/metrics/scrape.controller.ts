import type { MetricsConfig } from '#libs/config/config.js';
import { METRICS_CONFIG } from '#libs/config/config.module.js';
import { ApiAccessProblems } from '#libs/errors/api-problems.js';
import { Metrics } from '#libs/observability/metrics.js';
import { Controller, Get, Header, Inject, Req, Res } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { Open } from '../auth/auth.guard.js';
import { Authenticator } from '../auth/authenticator.js';
import { type Door, Refusals } from '../auth/refusals.js';
import { Scrape } from './scrape.js';

const METRICS: Door = { scope: 'metrics', route: '/metrics' };
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
    private readonly authenticator: Authenticator,
    private readonly refusals: Refusals,
    @Inject(METRICS_CONFIG) private readonly config: MetricsConfig,
  ) {}

  @Get('metrics')
  // Checked below: it depends on the configuration whether it is.
  @Open()
  @Header('Cache-Control', 'no-store')
  @ApiOperation({
    operationId: 'readMetrics',
    summary: "What this manager counts and measures, in Prometheus's text format",
    description: 'With `METRICS_PUBLIC=true` no key is asked for.',
  })
  @ApiOkResponse({ content: { 'text/plain': { schema: { type: 'string' }, example: EXAMPLE } } })
  @ApiAccessProblems()
  async read(@Req() request: Request, @Res() response: Response): Promise<void> {
    if (!this.config.public) await this.check(request, response);
    response.type(this.metrics.contentType).send(await this.scrape.text());
  }

  private async check(request: Request, response: Response): Promise<void> {
    try {
      this.authenticator.authenticate(request, METRICS.scope);
    } catch (thrown) {
      throw await this.refusals.due(thrown, METRICS, request, response);
    }
  }
}
