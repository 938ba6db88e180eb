import { ApiProblems } from '#libs/errors/api-problems.js';
import { Controller, Delete, Get, HttpCode, Param, Put, Req, Res } from '@nestjs/common';
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
import { SecretDto, SecretValueDto } from './dto.js';
import { SecretsService } from './secrets.service.js';

const NAME: ApiParamOptions = {
  name: 'name',
  description: "The secret's name: a DNS label.",
  schema: { type: 'string', pattern: '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$', example: 'db-password' },
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
  @ApiOkResponse({ type: [SecretDto], description: 'The secrets.' })
  @ApiProblems()
  async list(): Promise<SecretDto[]> {
    return (await this.secrets.list()).map((one) => SecretDto.of(one));
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
