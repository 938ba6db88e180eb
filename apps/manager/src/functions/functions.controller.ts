import { ApiProblems } from '#libs/errors/api-problems.js';
import {
  Controller,
  Delete,
  Get,
  Header,
  HttpCode,
  Param,
  Patch,
  Post,
  Query,
  Req,
  Res,
  StreamableFile,
} from '@nestjs/common';
import {
  ApiAcceptedResponse,
  ApiBody,
  ApiCreatedResponse,
  ApiExtraModels,
  ApiHeader,
  type ApiHeaderOptions,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  ApiProduces,
  ApiTags,
  getSchemaPath,
} from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { Audit, keyOf, scopeOf } from '../auth/audit.js';
import { Needs } from '../auth/auth.guard.js';
import { tagVersion, versionsOf } from '../http/entity-tag.js';
import { InPages, linkHeader } from '../http/pages.js';
import { QueryParameter } from '../http/query.js';
import { FUNCTION_ID, FunctionDetailDto, FunctionDto } from './dto/function.dto.js';
import { MetadataDto } from './dto/metadata.dto.js';
import { JsonUploadDto, UploadDto } from './dto/upload.dto.js';
import { PHASES, newestServing } from './function.entity.js';
import { FunctionsService } from './functions.service.js';
import { filterOf, pageOf } from './page.js';

export const ETAG = {
  ETag: {
    description: 'The version of what users say of the function: for `If-Match`.',
    schema: { type: 'string' as const, example: '"1"' },
  },
};

export const IF_MATCH: ApiHeaderOptions = {
  name: 'If-Match',
  required: false,
  description: 'The ETag of the version to change. With another one nothing happens.',
  schema: { type: 'string' },
};

/** Any request may have it. Some generators make a client of two kinds of bodies only beside an optional header. */
const REQUEST_ID: ApiHeaderOptions = {
  name: 'X-Request-Id',
  required: false,
  description: 'An id of your own for the log: up to 64 letters, digits, `.`, `_` or `-`.',
  schema: { type: 'string', maxLength: 64 },
};

export const CODE_ANSWER = {
  description: 'The file.',
  content: {
    'text/x-python': {
      schema: { type: 'string' as const },
      example: 'def handle(payload: str):\n    return payload\n',
    },
  },
};

/** A form, as the Go service took it, or JSON. */
const UPLOAD = {
  required: true,
  content: {
    'multipart/form-data': { schema: { $ref: getSchemaPath(UploadDto) } },
    'application/json': {
      schema: { $ref: getSchemaPath(JsonUploadDto) },
      example: { function_name: 'handle', code: 'def handle(payload: str):\n    return payload\n' },
    },
  },
};

@ApiTags('functions')
@Needs('deploy')
@Controller('functions')
export class FunctionsController {
  constructor(
    private readonly functions: FunctionsService,
    private readonly audit: Audit,
  ) {}

  @Post()
  @ApiOperation({
    operationId: 'addFunction',
    summary: 'Upload a Python file as a function',
    description: 'Answers once the handler has passed a readiness probe. An upload that fails leaves nothing behind.',
    requestBody: UPLOAD,
  })
  @ApiExtraModels(UploadDto, JsonUploadDto)
  @ApiHeader(REQUEST_ID)
  @ApiCreatedResponse({
    type: FunctionDto,
    description: 'The function, which answers calls.',
    headers: {
      Location: { description: "The function's path.", schema: { type: 'string', format: 'uri-reference' } },
      ...ETAG,
    },
  })
  @ApiProblems(
    'invalid_upload',
    'name_taken',
    'secret_unreadable',
    'function_removed',
    'upload_too_large',
    'unsupported_encoding',
    'handler_not_loadable',
    'manager_overloaded',
    'function_not_ready',
    'orchestrator_unavailable',
    'requirements_not_installable',
    'requirements_unsupported',
    'build_unavailable',
  )
  async add(@Req() request: Request, @Res({ passthrough: true }) response: Response): Promise<FunctionDto> {
    const added = await this.audit.of('add', request, (name) => this.functions.add(request, keyOf(request), name));
    response.location(`/functions/${added.id}`);
    tagVersion(request, response, added.version);
    return FunctionDto.of(added, scopeOf(request));
  }

  @Get()
  @ApiOperation({
    operationId: 'listFunctions',
    summary: 'List functions, the oldest first',
    description:
      'All of them at once, or in pages: with a `limit`, the `Link` header leads to the next page. Filters may be combined.',
  })
  @QueryParameter({
    name: 'name',
    required: false,
    description: 'The one of this name, or of this id.',
    schema: { type: 'string', maxLength: 63 },
  })
  @QueryParameter({
    name: 'label',
    required: false,
    description: 'Those with this label: `key=value`, or `key` for any value. Several: those that have all of them.',
    schema: { type: 'array', items: { type: 'string', maxLength: 127 }, maxItems: 32 },
  })
  @QueryParameter({
    name: 'status',
    required: false,
    description: 'Those of this status.',
    schema: { type: 'string', enum: [...PHASES] },
  })
  @InPages({ after: { pattern: '^[0-9]{1,18}$', maxLength: 18 } })
  @ApiOkResponse({
    type: [FunctionDto],
    description: 'The functions; an empty array where there are none.',
    headers: linkHeader('</functions?limit=100&after=100>; rel="next"', 'functions'),
  })
  @ApiProblems('invalid_page')
  async list(
    @Query() query: Record<string, unknown>,
    @Req() request: Request,
    @Res({ passthrough: true }) response: Response,
  ): Promise<FunctionDto[]> {
    const { functions, next } = await this.functions.list(pageOf(query), filterOf(query), scopeOf(request));
    if (next !== undefined) response.setHeader('Link', next);
    return functions;
  }

  @Get(':id')
  @ApiOperation({
    operationId: 'getFunction',
    summary: 'One function, why it is in its state and since when',
    description: 'What the list tells of it, and conditions, the last error, replicas and the hash of its code.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiOkResponse({ type: FunctionDetailDto, description: 'The function.', headers: ETAG })
  @ApiProblems('function_not_found', 'route_not_found')
  async detail(
    @Param('id') id: string,
    @Req() request: Request,
    @Res({ passthrough: true }) response: Response,
  ): Promise<FunctionDetailDto> {
    const row = await this.functions.find(id);
    tagVersion(request, response, row.version);
    return this.functions.detail(row, scopeOf(request));
  }

  @Patch(':id')
  @ApiOperation({
    operationId: 'updateFunction',
    summary: 'Name, describe, label or switch off a function',
    description:
      'A JSON merge patch (RFC 7396): what is left out stays, a label that is null goes. Nothing is started anew; calls under way end as they would.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiHeader(IF_MATCH)
  // Swagger UI would send all members otherwise.
  @ApiBody({ type: MetadataDto, examples: { off: { summary: 'Switch it off', value: { enabled: false } } } })
  @ApiOkResponse({ type: FunctionDto, description: 'The function as it is now.', headers: ETAG })
  @ApiProblems(
    'invalid_update',
    'function_not_found',
    'route_not_found',
    'name_taken',
    'version_outdated',
    'unsupported_encoding',
    'manager_overloaded',
  )
  async update(
    @Param('id') id: string,
    @Req() request: Request,
    @Res({ passthrough: true }) response: Response,
  ): Promise<FunctionDto> {
    const row = await this.audit.of('update', request, (name) =>
      this.functions.update(id, request, versionsOf(request), name),
    );
    tagVersion(request, response, row.version);
    return FunctionDto.of(row, scopeOf(request));
  }

  @Get(':id/code')
  @Header('X-Content-Type-Options', 'nosniff')
  @ApiOperation({
    operationId: 'getFunctionCode',
    summary: 'The uploaded file, byte for byte',
    description: 'Its charset is what its own coding line says, or UTF-8.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiProduces('text/x-python')
  @ApiOkResponse(CODE_ANSWER)
  @ApiProblems('function_not_found', 'route_not_found', 'manager_overloaded')
  async code(@Param('id') id: string, @Res({ passthrough: true }) response: Response): Promise<StreamableFile> {
    const row = await this.functions.find(id);
    return this.functions.code(row, newestServing(row), response);
  }

  @Delete(':id')
  @HttpCode(204)
  @ApiOperation({
    operationId: 'removeFunction',
    summary: 'Remove a function',
    description: 'Calls in flight may finish for up to ten seconds; new ones are refused at once.',
  })
  @ApiParam(FUNCTION_ID)
  @ApiNoContentResponse({ description: 'Nothing of the function is left.' })
  @ApiAcceptedResponse({
    type: FunctionDto,
    description: 'Recorded; it finishes by itself once the engine can be reached.',
  })
  @ApiHeader(IF_MATCH)
  @ApiProblems('function_not_found', 'route_not_found', 'version_outdated')
  async remove(
    @Param('id') id: string,
    @Req() request: Request,
    @Res({ passthrough: true }) response: Response,
  ): Promise<FunctionDto | undefined> {
    const { finished, row } = await this.audit.of('remove', request, (name) =>
      this.functions.remove(id, versionsOf(request), name),
    );
    if (finished) return undefined;
    response.status(202);
    return FunctionDto.of(row, scopeOf(request));
  }
}
