import { ApiProblems } from '#libs/errors/api-problems.js';
import { Controller, Get, Param, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import { Needs } from '../auth/auth.guard.js';
import { FUNCTION_ID } from '../functions/dto/function.dto.js';
import { QueryParameter } from '../http/query.js';
import { StatisticsDto } from './dto.js';
import { HistoryService } from './history.service.js';
import { DEFAULT_WINDOW } from './statistics-query.js';

@ApiTags('invocations')
@Needs('deploy')
@Controller('functions')
export class HistoryController {
  constructor(private readonly history: HistoryService) {}

  @Get(':id/statistics')
  @ApiOperation({
    operationId: 'getFunctionStatistics',
    summary: 'How the calls of a function went, by the minute',
    description:
      'Rate, errors and durations of all its calls, whether or not each of them is still in the history. Of more than a day by the hour.',
  })
  @ApiParam(FUNCTION_ID)
  @QueryParameter({
    name: 'window',
    required: false,
    description: 'The last so many minutes, hours or days: `30m`, `6h`, `7d`. At most 31 days.',
    schema: { type: 'string', pattern: '^[0-9]{1,4}[mhd]$', default: DEFAULT_WINDOW },
  })
  @QueryParameter({
    name: 'revision',
    required: false,
    description: 'Of this revision only.',
    schema: { type: 'integer', minimum: 1, maximum: 999_999_999 },
  })
  @ApiOkResponse({ type: StatisticsDto, description: 'All of the time together, and step by step.' })
  @ApiProblems('function_not_found', 'route_not_found')
  statistics(@Param('id') reference: string, @Query() query: Record<string, unknown>): Promise<StatisticsDto> {
    return this.history.statistics(reference, query);
  }
}
