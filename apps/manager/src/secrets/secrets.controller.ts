import { DNS_LABEL, isDnsLabel } from '#libs/names/dns-label.js';
import { ApiProblems } from '#libs/errors/api-problems.js';
import { Controller, Delete, Get, HttpCode, Param, Put, Query, Req, Res } from '@nestjs/common';
import {
  ApiBody,
  ApiCreatedResponse,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  type ApiParamOptions,
  ApiTags,
} from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { Audit, keyOf } from '../auth/audit.js';
import { Needs } from '../auth/auth.guard.js';
import { afterOf, InPages, limitOf, linkHeader, linkToNext, MOST_PER_PAGE } from '../http/pages.js';
import { SecretDto, SecretValueDto } from './dto.js';
import { SecretsService } from './secrets.service.js';

const NAME: ApiParamOptions = {
  name: 'name',
  description: "The secret's name: a DNS label.",
  schema: { type: 'string', pattern: DNS_LABEL.source, example: 'db-password' },
};

@ApiTags('secrets')
@Needs('deploy')
@Controller('secrets')
export class SecretsController {
  constructor(
    private readonly secrets: SecretsService,
    private readonly audit: Audit,
  ) {}

  @Get()
  @ApiOperation({
    operationId: 'listSecrets',
    summary: 'The secrets, by name',
    description: 'With who uses them, and without their values, which nothing answers.',
  })
  @InPages({ after: { maxLength: 63 } })
  @ApiOkResponse({
    type: [SecretDto],
    description: 'The secrets.',
    headers: linkHeader('</secrets?limit=100&after=db-password>; rel="next"', 'secrets'),
  })
  @ApiProblems('invalid_page')
  async list(
    @Query() query: Record<string, unknown>,
    @Res({ passthrough: true }) response: Response,
  ): Promise<SecretDto[]> {
    const limit = limitOf(query['limit']);
    const after = afterOf(query['after'], isDnsLabel);
    const { secrets, isLast } = await this.secrets.list(after, limit);
    const last = secrets.at(-1)?.row.name;
    if (!isLast && last !== undefined) {
      response.setHeader('Link', linkToNext('/secrets', limit ?? MOST_PER_PAGE, last));
    }
    return secrets.map((one) => SecretDto.of(one));
  }

  @Put(':name')
  @HttpCode(200)
  @ApiOperation({
    operationId: 'putSecret',
    summary: 'Make a secret, or change its value',
    description:
      'Functions that use it get another value by new workers, without a failed call. The same value again changes nothing.',
  })
  @ApiParam(NAME)
  @ApiBody({ type: SecretValueDto })
  @ApiOkResponse({ type: SecretDto, description: 'It has this value now.' })
  @ApiCreatedResponse({
    type: SecretDto,
    description: 'It is new.',
    headers: { Location: { description: "The secret's path.", schema: { type: 'string', format: 'uri-reference' } } },
  })
  @ApiProblems(
    'invalid_secret',
    'route_not_found',
    'secrets_not_configured',
    'too_many_secrets',
    'unsupported_encoding',
    'manager_overloaded',
  )
  async put(
    @Param('name') name: string,
    @Req() request: Request,
    @Res({ passthrough: true }) response: Response,
  ): Promise<SecretDto> {
    const put = await this.audit.of('put secret', request, () => this.secrets.put(name, request, keyOf(request)), {
      secret: name.slice(0, 64),
    });
    if (put.outcome === 'made') response.status(201).location(`/secrets/${name}`);
    return SecretDto.of(put);
  }

  @Delete(':name')
  @HttpCode(204)
  @ApiOperation({
    operationId: 'removeSecret',
    summary: 'Remove a secret that no function uses',
    description: 'A revision that is kept uses it, too, because one can go back to it.',
  })
  @ApiParam(NAME)
  @ApiNoContentResponse({ description: 'It is gone.' })
  @ApiProblems('invalid_secret', 'secret_not_found', 'route_not_found', 'secret_in_use')
  remove(@Param('name') name: string, @Req() request: Request): Promise<void> {
    return this.audit.of('remove secret', request, () => this.secrets.remove(name), { secret: name.slice(0, 64) });
  }
}
